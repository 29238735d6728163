# SPDX-License-Identifier: Apache-2.0
"""Write a small ``deploy.yaml`` with comments, to start from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from textwrap import indent
from typing import Any

import yaml

Section = Mapping[str, Any]

_HEAD = """\
# The whole deployment in one file: `quorum validate` checks it, `quorum render` writes model_repository/ from
# it, `quorum up` serves it. Paths are relative to this file.
schema_version: 1

# Who votes. Weights are learned for this list. After a change run `quorum apply` while the server runs, else
# `quorum render`.
members:
"""
_ATTRIBUTES = """
# What can be asked. `values` closes an attribute: members can answer nothing else (or "n/a": the text does
# not say). `synonyms` maps other words to a value.
attributes:
"""
_TAIL = """
gate:
  timeout_s: 30         # for requests that bring no timeout of their own

# vote:                 # withhold what too few members stand behind
#   min_members: 2
#   grace_ms: 500       # once two have answered, the others get half a second more

server:
  host: 127.0.0.1       # others can reach only a gateway with keys, or a trusted network
  grpc_port: 8001
  metrics_port: 8002    # Triton's own figures
"""
_WIDTH = 106
_NOT_IN_NAMES = re.compile(r"[^a-z0-9_.-]+")
_LONGEST_NAME = 40

USUAL_ATTRIBUTES: Mapping[str, Section] = {
    "brand": {"question": "Which brand made the item?", "normaliser": "exact"},
    "color": {
        "question": "What is the main colour of the item?",
        "values": [
            *("black", "white", "grey", "red", "blue", "green", "yellow", "orange", "pink", "purple"),
            *("brown", "beige", "multicolor"),
        ],
        "synonyms": {"gray": "grey", "navy": "blue", "multicolour": "multicolor"},
    },
    "material": {"question": "What is the item mainly made of?"},
    "size": {"question": "Which size is stated?", "normaliser": "exact"},
    "gender": {
        "question": "Which gender is the item made for, as the text states it?",
        "values": ["women", "men", "unisex"],
        "synonyms": {"female": "women", "ladies": "women", "male": "men"},
    },
}
"""Attribute -> its section, for a catalogue to start from."""


def attribute_sections(names: Iterable[str]) -> dict[str, Section]:
    """The sections of these attributes; one that is not of :data:`USUAL_ATTRIBUTES` gets a plain question."""
    usual = {name: {"question": f"What is the {name.replace('_', ' ')} of the item?"} for name in names}
    return {name: USUAL_ATTRIBUTES.get(name, plain) for name, plain in usual.items()}


def member_names(titles: Iterable[str]) -> list[str]:
    """A distinct name of a member for each title of an LLM, such as ``Qwen/Qwen3-0.6B``: its last part."""
    names: list[str] = []
    for title in titles:
        last = title.rstrip("/").rpartition("/")[2].lower()
        plain = _NOT_IN_NAMES.sub("-", last).strip("-._")[:_LONGEST_NAME] or "llm"
        number, name = 2, plain
        while name in names:
            name, number = f"{plain}-{number}", number + 1
        names.append(name)
    return names


def deploy_text(members: Sequence[Section], attributes: Mapping[str, Section], note: str = "") -> str:
    """The text of a ``deploy.yaml`` of these members and attributes; deterministic.

    Args:
        members: The ``members`` section.
        attributes: The ``attributes`` section.
        note: A comment above the members.
    """
    comment = "".join(f"  # {line}\n" for line in note.splitlines())
    return _HEAD + comment + _yaml([*members]) + _ATTRIBUTES + _yaml(dict(attributes)) + _TAIL


def _yaml(value: Any) -> str:
    # Innermost mappings and lists stand on one line, as people write them.
    text = yaml.safe_dump(value, default_flow_style=None, sort_keys=False, width=_WIDTH, allow_unicode=True)
    return indent(text, "  ")

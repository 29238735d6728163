# SPDX-License-Identifier: Apache-2.0
"""Write the lines of ``deploy.yaml`` that make a tuned folder a member."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from quorum.tune.card import Card

_LONGEST_NAME = 63


def member_lines(
    card: Card,
    base: Path,
    out: Path,
    root: Path,
    *,
    chat: bool | None = None,
    taken: Collection[str] = (),
) -> str:
    """YAML of the member, indented as an item of ``members``.

    Args:
        card: Of the folder.
        base: Folder of the base model.
        out: The folder.
        root: Folder of ``deploy.yaml``, which relative paths start from.
        chat: Of an LLM, where its options must say it: whether the chat template is applied.
        taken: Names of the members that the deployment has.
    """
    member: dict[str, Any] = {}
    model = _path(out, root)
    if card.architecture == "encoder":
        stem, end = _stem(card, "values"), "encoder"
        member |= {"runtime": "encoder", "options": {"model": model}}
    else:
        stem, end = _stem(card, "tasks"), _slug(card.base, "llm")
        options = {"model": model} if card.method == "full" else {"model": _path(base, root), "lora": model}
        said = {} if chat is None else {"chat": chat}
        member |= {"runtime": "hf", "options": {**options, **said}, "prompt": card.prompts["style"]}
    named = {"name": _free(stem, end, taken), **member}
    text = yaml.safe_dump([named], sort_keys=False, allow_unicode=True, default_flow_style=None, width=1000)
    return textwrap.indent(text, "  ")


def _stem(card: Card, several: str) -> str:
    return _slug(card.tasks[0], several) if len(card.tasks) == 1 else several


def _slug(text: str, otherwise: str) -> str:
    """The characters of a text that can name a Triton model; others become ``-``."""
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss")).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9.]+", "-", plain).strip("-.") or otherwise


def _free(stem: str, end: str, taken: Collection[str]) -> str:
    """A name that no member has."""
    number, name = 1, ""
    while not name or name in taken:
        tail = f"-{end[: _LONGEST_NAME // 2]}{f'-{number}' if number > 1 else ''}"
        name, number = stem[: _LONGEST_NAME - len(tail)] + tail, number + 1
    return name


def _path(folder: Path, root: Path) -> str:
    """Relative to ``deploy.yaml`` where it lies below its folder."""
    whole = folder.resolve()
    return str(whole.relative_to(root.resolve()) if whole.is_relative_to(root.resolve()) else whole)

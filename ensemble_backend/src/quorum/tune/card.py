# SPDX-License-Identifier: Apache-2.0
"""``card.json``: what a tuned member was made of, and how good it is on rows held out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from quorum.files import write_atomic
from quorum.records import Record
from quorum.runtimes.tuned_prompt import CARD
from quorum_contract.errors import QuorumError

CARD_FILE = CARD
SCHEMA_VERSION = 1
_LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "onnx", "onnxruntime", "onnxscript")


class CardError(QuorumError, ValueError):
    """A card cannot be read; the message names the file and the fix."""

    code = "TRAINING_CARD_INVALID"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card(Record):
    """A training card.

    Attributes:
        tasks: Attributes that the member was tuned on.
        method: ``full``, ``lora``, or how adapters were merged.
        architecture: ``encoder`` or ``causal``.
        base: Name of the base model's folder.
        base_hash: See :class:`quorum.tune.base.Base`.
        base_licence: "" where its folder states none.
        source: ``gold`` or ``votes``.
        data: Name of the file.
        data_hash: Of the rows trained on and held out.
        rows: Trained on.
        held_out_rows: Judged on.
        left_out: Rows of the file without an answer that could be learned.
        seed: Of every draw.
        epochs: Wanted; early stopping may end before.
        steps: Made.
        best_step: The step whose weights were kept.
        settings: Learning rate, batch, and others of the method, JSON values.
        catalogue: Attribute -> hash of the catalogue at tuning time.
        prompts: What an LLM was trained on (:class:`quorum.runtimes.tuned_prompt.TunedPrompts`); empty for
            encoders, which have no prompt.
        scores: Task -> figure -> value in [0, 1], on held-out rows; ``parse_share`` among them.
        tuned_on: File of the folder with hashes of the texts that were trained on or held out
            (:mod:`quorum.tune.tuned_on`); "" where these are not known.
        seconds: Of training, wall clock, over all interrupted runs.
        libraries: Name -> version.
        remarks: For people.
    """

    tasks: tuple[str, ...]
    method: str
    architecture: str
    base: str
    base_hash: str
    base_licence: str = ""
    source: str = "gold"
    data: str = ""
    data_hash: str = ""
    rows: int = 0
    held_out_rows: int = 0
    left_out: int = 0
    seed: int = 0
    epochs: int = 0
    steps: int = 0
    best_step: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    catalogue: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    tuned_on: str = ""
    seconds: float = 0.0
    libraries: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, with the version of the schema."""
        return {"schema_version": SCHEMA_VERSION, **Record.to_json(self)}


def library_versions() -> dict[str, str]:
    """Versions of the libraries that tuning uses, of those installed."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_card(card: Card, folder: Path) -> None:
    """Write ``card.json`` into a folder."""
    write_atomic(folder / CARD_FILE, json.dumps(card.to_json(), ensure_ascii=False, indent=2) + "\n")


def read_card(folder: Path) -> Card:
    """Read the ``card.json`` of a folder; raises CardError where there is none, or of a newer schema."""
    path = folder / CARD_FILE
    try:
        content = json.loads(path.read_text("utf-8"))
        version = content.pop("schema_version")
        if not isinstance(version, int) or version > SCHEMA_VERSION:
            raise CardError(
                f"{path}: schema_version {version!r}, this quorum reads {SCHEMA_VERSION}; upgrade it"
            )
        for name in ("tasks", "remarks"):
            content[name] = tuple(content.get(name, ()))
        return Card(**content)
    except OSError as error:
        raise CardError(f"{path}: {error.strerror}; name a folder that `quorum tune` wrote") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, CardError):
            raise
        raise CardError(f"{path}: is no training card ({error}); tune the member again") from error

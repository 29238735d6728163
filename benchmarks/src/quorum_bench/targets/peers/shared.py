# SPDX-License-Identifier: Apache-2.0
"""What every peer has in common: what members answer, and how their votes are counted."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from quorum.tasks.catalogue import Attribute, Catalogue
from quorum.tasks.parse import parse_answer
from quorum.tasks.prompt import fill_prompt, instructions_for
from quorum.voting.single import ANSWERED, Parameters, decide_one

SETTINGS = "QUORUM_PEER"
"""Names the settings file in the environment, for servers that fork or spawn their workers."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the benchmark wants served.

    Attributes:
        members: Their names.
        think_s: How long each of them thinks.
        votes: A votes table, JSONL.
        weights: JSON file with the version and one weight per member.
        ports: By service.
    """

    members: Sequence[str]
    think_s: float
    votes: Path
    weights: Path
    ports: Mapping[str, int]

    @classmethod
    def read(cls) -> Settings:
        """From the file that the environment names."""
        data = json.loads(Path(os.environ[SETTINGS]).read_text("utf-8"))
        return cls(
            data["members"], data["think_s"], Path(data["votes"]), Path(data["weights"]), data["ports"]
        )


_written = json.JSONEncoder(ensure_ascii=False).encode


class Table:
    """A member: asked by a prompt, it thinks for a while and answers JSON from the votes table.

    Prompt and answer are made and read by the product's own code, so that members do everywhere the same.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self._think_s = settings.think_s
        self._answers: dict[tuple[str, str], dict[str, str]] = {}
        for line in settings.votes.read_text("utf-8").splitlines():
            row = json.loads(line)
            answers = self._answers.setdefault((row["category"], row["title"]), {})
            answers[row["attribute"]] = row["votes"][name]
        names = {name for answers in self._answers.values() for name in answers}
        self._catalogue = Catalogue.of([Attribute(name) for name in sorted(names)])
        self._instructions = lru_cache(maxsize=256)(partial(instructions_for, self._catalogue, "instruct"))

    async def values(self, text: str, category: str, attributes: Sequence[str]) -> list[str]:
        """A value for each attribute."""
        fill_prompt("instruct", self._instructions(tuple(attributes)), text, category)
        if self._think_s > 0:
            await asyncio.sleep(self._think_s)
        recorded = self._answers[category, text]
        reply = _written({name: recorded[name] for name in attributes})
        return [vote.value for vote in parse_answer(self._catalogue, attributes, reply)]


class Vote:
    """The decision rule with the weights of the moment it was made."""

    def __init__(self, weights: Mapping[str, Any]) -> None:
        self.version = int(weights["version"])
        self._parameters = Parameters(tuple(weights["weights"]))

    @classmethod
    def read(cls, path: Path) -> Vote:
        """With the weights of a file."""
        return cls(json.loads(path.read_text("utf-8")))

    def answer(self, votes: Sequence[Sequence[str]]) -> dict[str, Any]:
        """What the caller gets; ``votes`` are ``[N members, A attributes]``."""
        decided = [
            decide_one(self._parameters, [(value, ANSWERED) for value in ballots])
            for ballots in zip(*votes, strict=True)
        ]
        return {
            "values": [value for value, _ in decided],
            "confidence": [confidence for _, confidence in decided],
            "member_values": votes,
            "weights_version": self.version,
        }

# SPDX-License-Identifier: Apache-2.0
"""Answer as a member and count votes, for every peer."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

from quorum.decision.cell import ANSWERED, Parameters, decide_one
from quorum.runtimes import create
from quorum.runtimes.base import Generated, Question, Reply, RuntimeSettings
from quorum.runtimes.options import read_options
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import answer_schema
from quorum.tasks.parse import parse_answer
from quorum.tasks.prompt import fill_prompt, instructions_for

ABSTAINED = 1
_LLM_TIMEOUT_NS = 30_000_000_000
SETTINGS = "QUORUM_PEER"
"""Names the settings file in the environment, for servers that fork or spawn their workers."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a peer's services.

    Attributes:
        members: Their names.
        think_s: Thinking time of each.
        votes: A votes table, JSONL.
        weights: JSON file with the version and one weight per member.
        ports: Service -> port.
        llms: Member -> its runtime, options and prompt; empty for members that answer from the table.
        root: Folder that paths in the options start from.
        catalogue: Catalogue for LLMs.
    """

    members: Sequence[str]
    think_s: float
    votes: Path
    weights: Path
    ports: Mapping[str, int]
    llms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    root: Path = Path()
    catalogue: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls) -> Settings:
        """Read the file that the environment names."""
        data = json.loads(Path(os.environ[SETTINGS]).read_text("utf-8"))
        return cls(
            data["members"],
            data["think_s"],
            Path(data["votes"]),
            Path(data["weights"]),
            data["ports"],
            data.get("llms", {}),
            Path(data.get("root", "")),
            data.get("catalogue", {}),
        )


class Member(Protocol):
    """A member in its process."""

    async def values(self, text: str, category: str, attributes: Sequence[str]) -> list[str]:
        """A value for each attribute; empty for an abstention."""


def make_member(settings: Settings, name: str) -> Member:
    """Make a table or an LLM, by the settings."""
    return Llm(settings, name) if settings.llms else Table(settings, name)


_written = json.JSONEncoder(ensure_ascii=False).encode


class Table:
    """A member that thinks for a while and answers a prompt with JSON from the votes table.

    The product's own code makes prompts and reads answers, so that members do the same work everywhere.
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


class Llm:
    """A member that is an LLM, on the product's own runtime, which takes many questions at once."""

    def __init__(self, settings: Settings, name: str) -> None:
        llm = settings.llms[name]
        self._catalogue = Catalogue.from_json(settings.catalogue)
        self._style = llm["prompt"]
        self._task = lru_cache(maxsize=256)(self._task_of)
        options = read_options(llm["runtime"], llm["options"])
        self._runtime = create(RuntimeSettings(name, settings.root, options))

    async def values(self, text: str, category: str, attributes: Sequence[str]) -> list[str]:
        """A value for each attribute; empty for an abstention."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        instructions, schema = self._task(tuple(attributes))
        prompt = fill_prompt(self._style, instructions, text, category)
        deadline_ns = time.monotonic_ns() + _LLM_TIMEOUT_NS
        question = Question(prompt, schema, text, category, tuple(attributes), deadline_ns)

        def done(reply: Reply) -> None:
            loop.call_soon_threadsafe(future.set_result, reply)

        self._runtime.submit(question, done)
        reply = await future
        if not isinstance(reply, Generated):
            return [""] * len(attributes)
        return [vote.value for vote in parse_answer(self._catalogue, attributes, reply.text)]

    def _task_of(self, attributes: tuple[str, ...]) -> tuple[str, str]:
        schema = json.dumps(answer_schema(self._catalogue, attributes), ensure_ascii=False)
        return instructions_for(self._catalogue, self._style, attributes), schema


class Vote:
    """The decision rule with fixed weights."""

    def __init__(self, weights: Mapping[str, Any]) -> None:
        self.version = int(weights["version"])
        self._parameters = Parameters(tuple(weights["weights"]))

    @classmethod
    def read(cls, path: Path) -> Vote:
        """Read the weights of a file."""
        return cls(json.loads(path.read_text("utf-8")))

    def answer(self, votes: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Decide and return the caller's answer; ``votes`` are ``[N members, A attributes]``."""
        decided = [
            decide_one(self._parameters, [(value, _status(value)) for value in ballots])
            for ballots in zip(*votes, strict=True)
        ]
        return {
            "values": [value for value, _ in decided],
            "confidence": [confidence for _, confidence in decided],
            "member_values": votes,
            "weights_version": self.version,
        }


def _status(value: str) -> int:
    return ANSWERED if value else ABSTAINED

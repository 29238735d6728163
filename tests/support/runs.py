# SPDX-License-Identifier: Apache-2.0
"""Runs of jobs whose answers are made up: what stands for the client's server, and options."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import quorum
from quorum_client import (
    Answer,
    AsyncClient,
    DecisionStatus,
    Extraction,
    Status,
    Vote,
)

ROWS = 50
COMMAND = ("extract", "in.csv", "--out", "o.csv", "--attributes", "color")
VOTES = (Vote("alpha", "red", Status.ANSWERED), Vote("beta", "red", Status.ANSWERED))
Server = Callable[[str], Extraction]


def answer(text: str, version: int = 1, **origin: Any) -> Extraction:
    found = Answer("color", f"red {text}", 0.5, VOTES)
    return Extraction("id", (found,), version, 0.01, **origin)


def serve(monkeypatch: pytest.MonkeyPatch, texts: list[str], server: Server) -> None:
    """Let a function answer, or fail, each text."""

    async def extract(_: AsyncClient, text: str, *__: Any, **___: Any) -> Extraction:
        texts.append(text)
        await asyncio.sleep(0)
        return server(text)

    monkeypatch.setattr(AsyncClient, "extract", extract)


def failing(failures: dict[int, BaseException | list[BaseException]]) -> Server:
    """A server that fails on some texts: always, or as often as there are errors."""

    def server(text: str) -> Extraction:
        error = failures.get(int(text))
        if isinstance(error, list):
            error = error.pop() if error else None
        if error is not None:
            raise error
        return answer(text)

    return server


def options(**more: Any) -> quorum.ExtractOptions:
    chosen = {"out": "out.csv", "votes": "voted.jsonl", "attributes": ["color"], "concurrency": 1}
    return quorum.ExtractOptions(**chosen | {"part_rows": 20, "patience_s": 0.0} | more)


def rows_of(path: str = "out.csv") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(Path(path).read_text("utf-8"))))


def without_votes(text: str, *statuses: Status) -> Extraction:
    votes = tuple(Vote(name, None, status) for name, status in zip(("alpha", "beta"), statuses, strict=True))
    found = Answer("color", None, 0.0, votes, status=DecisionStatus.NO_ANSWER)
    return Extraction("id", (found,), 1, 0.01)

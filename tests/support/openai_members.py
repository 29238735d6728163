# SPDX-License-Identifier: Apache-2.0
"""Members of runtime ``openai`` that ask a server of :mod:`support.fault_server`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.fault_server import MODEL
from support.hf_members import CATALOGUE, ask, question

from quorum.runtimes.base import Generated, Reply, RuntimeSettings
from quorum.runtimes.openai import OpenAiRuntime
from quorum.runtimes.openai_options import OpenAiOptions
from quorum.runtimes.options import read_options
from quorum.runtimes.remote.endpoint import Limits
from quorum.tasks.parse import Vote, parse_answer

__all__ = ["RIGHT", "ask_one", "member", "question", "state_of", "votes", "wait_until"]

RIGHT = {"color": "navy blue", "brand": "größe 👟", "gender": "women"}
"""What the server of the tests answers."""


@contextmanager
def member(
    url: str, *, limits: Limits | None = None, root: Path | None = None, **options: Any
) -> Iterator[OpenAiRuntime]:
    """A running runtime."""
    found = read_options("openai", {"base_url": url, "model": MODEL, **options})
    assert isinstance(found, OpenAiOptions)
    runtime = OpenAiRuntime(RuntimeSettings("remote", root or Path(), found), limits)
    try:
        yield runtime
    finally:
        runtime.close()


def votes(reply: Reply) -> list[Vote]:
    """What becomes of a text."""
    assert isinstance(reply, Generated), reply
    return parse_answer(CATALOGUE, list(CATALOGUE.attributes), *reply[:3])


def ask_one(runtime: OpenAiRuntime, seconds: float = 10.0) -> Reply:
    """The reply to one question."""
    (reply,) = ask(runtime, [question("a shoe", seconds)])
    return reply


def state_of(runtime: OpenAiRuntime, endpoint: int = 0) -> dict[str, object]:
    """What `quorum status` shows of an endpoint."""
    return runtime._caller.state().endpoints[endpoint].to_json()


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for an event of another thread."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.01)

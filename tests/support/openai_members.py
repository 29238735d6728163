# SPDX-License-Identifier: Apache-2.0
"""Members of runtime ``openai`` that ask a server of :mod:`support.fault_server`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.fault_server import MODEL
from support.hf_members import CATALOGUE, question

from quorum.runtimes.base import Generated, Reply, RuntimeSettings
from quorum.runtimes.openai import OpenAiRuntime
from quorum.runtimes.openai_options import OpenAiOptions
from quorum.runtimes.options import read_options
from quorum.runtimes.remote.endpoint import Limits
from quorum.tasks.parse import Vote, parse_answer

__all__ = ["member", "question", "votes"]


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

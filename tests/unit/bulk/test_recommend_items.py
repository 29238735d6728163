# SPDX-License-Identifier: Apache-2.0
"""Recommending for a file of items, without a server: what is refused first."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from support.deployment import write_deployment, write_jsonl

import quorum
import quorum.cli.recommend as command
from quorum.bulk.outputs import OutputError
from quorum_client import Unavailable


def test_a_file_that_holds_something_is_kept(tmp_path: Path) -> None:
    spec = quorum.load_deployment(write_deployment(tmp_path, {"alpha": {}}))
    items = write_jsonl(tmp_path / "items.jsonl", [{"id": "a", "title": "red shoe"}])
    out = tmp_path / "out.jsonl"
    out.write_text("precious")
    # Nobody listens there.
    options: dict[str, Any] = {"url": "127.0.0.1:9", "out": out}
    with pytest.raises(OutputError, match=r"out\.jsonl exists; name another file, or replace it by --force"):
        quorum.recommend_items(spec, items, quorum.RecommendOptions(**options))
    with pytest.raises(OutputError, match="that file is read or written already"):
        quorum.recommend_items(spec, items, quorum.RecommendOptions(out=items, url="127.0.0.1:9"))
    with pytest.raises(Unavailable):
        quorum.recommend_items(spec, items, quorum.RecommendOptions(**options, force=True))
    assert out.read_text() == "precious"


def test_an_item_has_as_long_by_command_as_by_call() -> None:
    for call in (command.recommend, quorum.recommend, quorum.RecommendOptions):
        seconds = {n: p.default for n, p in inspect.signature(call).parameters.items() if "timeout" in n}
        assert [*seconds.values()] == [30.0]

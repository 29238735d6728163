# SPDX-License-Identifier: Apache-2.0
"""`quorum votes`: what its commands print, and what they refuse."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quorum.cli.signals import terminated_as_interrupted
from quorum.votes import VotesWriter


def test_a_table_is_described_taken_apart_and_merged_again(folder: Path, run: Any) -> None:
    code, out, err = run("votes", "info", "votes.jsonl")
    assert (code, "72 cells of 24 products, 48 with gold" in err) == (0, True)
    assert "alpha" in out
    assert max(map(len, out.splitlines())) <= 80
    assert json.loads(run("votes", "info", "votes.jsonl", "--json")[1])["attributes"]["size"] == 24
    assert run("votes", "drop", "votes.jsonl", "alpha", "--out", "rest.parquet")[0] == 0
    assert run("votes", "drop", "votes.jsonl", "beta", "gamma", "-o", "one.parquet")[0] == 0
    assert run("votes", "rename", "one.parquet", "alpha=first", "-o", "first.parquet")[0] == 0
    code, _, err = run("votes", "merge", "first.parquet", "rest.parquet", "--out", "all.jsonl")
    assert (code, "wrote 72 cells of first, beta, gamma to all.jsonl" in err) == (0, True)
    code, _, err = run("votes", "normalise", "all.jsonl", "--out", "normal.jsonl")
    assert code == 0, err
    assert "0 votes changed" in err
    report = json.loads(run("votes", "normalise", "all.jsonl", "--out", "normal.jsonl", "--json")[1])
    assert (report["respelled"], report["examples"], report["out"]) == (0, [], "normal.jsonl")


def test_what_is_refused(folder: Path, run: Any) -> None:
    for arguments, words in (
        (["drop", "votes.jsonl", "alpha", "-o", "votes.jsonl"], "is an input of this command"),
        (["rename", "votes.jsonl", "alpha", "-o", "o.jsonl"], "write OLD=NEW"),
        (["merge", "votes.jsonl", "votes.jsonl", "-o", "o.jsonl", "--prefer", "x"], "write first or last"),
        (["info", "nowhere.parquet"], "nowhere.parquet"),
    ):
        code, _, err = run("votes", *arguments)
        assert (code, words in err) == (1, True), (arguments, err)


def test_a_table_without_a_suffix_is_json_lines(folder: Path, run: Any) -> None:
    code, _, err = run("votes", "drop", "votes.jsonl", "beta", "--out", "rest")
    assert (code, "wrote 72 cells of alpha, gamma to rest" in err) == (0, True), err
    assert run("votes", "info", "rest")[0] == 0


@pytest.mark.usefixtures("own_stack")
@pytest.mark.parametrize(
    "arguments",
    [
        ["drop", "votes.jsonl", "beta"],
        ["rename", "votes.jsonl", "beta=b"],
        ["normalise", "votes.jsonl"],
        ["merge", "votes.jsonl", "other.jsonl"],
    ],
)
def test_a_signal_leaves_nothing_half_written(
    folder: Path, run: Any, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    assert run("votes", "rename", "votes.jsonl", "beta=b", "--out", "other.jsonl")[0] == 0
    before = sorted(folder.iterdir())

    def end(*_: Any) -> None:
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(VotesWriter, "write", end)
    code, _, err = run("votes", *arguments, "--out", "out.jsonl")
    assert code != 0
    assert "Traceback" not in err
    assert sorted(folder.iterdir()) == before


def test_a_limit_of_file_sizes_is_a_message(folder: Path, run: Any) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        dropped = run("votes", "drop", "votes.jsonl", "beta", "--out", "rest.jsonl")
        learned = run("learn", "votes.jsonl", "--out", "w.json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    for (code, _, err), name in ((dropped, "rest.jsonl"), (learned, "w.json")):
        assert code == 1
        assert "File too large; raise the limit" in err, (name, err)
        assert not (folder / name).exists()


@pytest.mark.usefixtures("own_stack")
@pytest.mark.parametrize("interrupt", [signal.default_int_handler, signal.SIG_IGN])
def test_signals_end_jobs_in_the_background_too(interrupt: Callable[..., Any]) -> None:
    before = signal.signal(signal.SIGINT, interrupt), signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), terminated_as_interrupted():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGHUP, before[1])

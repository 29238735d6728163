# SPDX-License-Identifier: Apache-2.0
"""No exception of ours reaches a user as a traceback, whichever command it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from quorum.cli import app
from quorum.learning import LearnError, design, learn_statistic
from quorum.learning import learn as learn_module
from quorum.learning.newton import NoConvergenceError
from quorum.votes import read_votes


def groups_of(group: typer.Typer) -> list[typer.Typer]:
    inner = [one.typer_instance for one in group.registered_groups if one.typer_instance]
    return [group, *(found for one in inner for found in groups_of(one))]


def test_every_command_turns_errors_into_messages() -> None:
    groups = groups_of(app)
    commands = [command.callback for group in groups for command in group.registered_commands]
    commands += [group.registered_callback.callback for group in groups if group.registered_callback]
    assert len(groups) == 7
    assert len(commands) >= 23
    assert [c for c in commands if c is not None and not hasattr(c, "__wrapped__")] == []


@pytest.mark.parametrize("arguments", [("learn", "votes.jsonl"), ("evaluate", "votes.jsonl", "--folds", "2")])
def test_a_minimum_that_is_not_reached_is_a_message(
    folder: Path, run: Any, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise NoConvergenceError("not reached in 200 rounds")

    monkeypatch.setattr(design, "minimise", fail)
    method = "--methods" if arguments[0] == "evaluate" else "--method"
    code, _, err = run(*arguments, method, "loglinear")
    assert code == 1
    assert "error: loglinear: not reached in 200 rounds" in err


def test_a_bug_in_a_method_is_not_called_a_wrong_setting(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise TypeError("a bug")

    statistic = read_votes(folder / "votes.jsonl").statistic()
    monkeypatch.setitem(learn_module.__globals__["METHODS"], "em", broken)
    with pytest.raises(TypeError, match="a bug"):
        learn_statistic(statistic, "em")
    with pytest.raises(LearnError, match="do not fit"):
        learn_statistic(statistic, "em", settings={"nonsense": 1})

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path

import pytest

from quorum.repository.history import Event, History, timestamp


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


def add(history: History, action: str, version: int, before: int | None, outcome: str = "done") -> None:
    step = (timestamp(), action, version, before, f"sha256:{version}")
    history.append(Event(*step, who="somebody", outcome=outcome))


def test_events_come_back_in_order(history: History) -> None:
    assert list(history.events()) == []
    assert history.last() is None
    add(history, "publish", 2, None)
    add(history, "promote", 2, 1)
    assert [(e.action, e.version, e.before) for e in history.events()] == [
        ("publish", 2, None),
        ("promote", 2, 1),
    ]
    assert history.last() == list(history.events())[-1]
    assert history.last().at > next(history.events()).at  # type: ignore[union-attr]


def test_a_version_is_left_until_a_canary_is_set_to_it(history: History) -> None:
    add(history, "render", 1, None)
    assert not history.was_left(1)
    add(history, "promote", 2, 1, outcome="failed")
    assert not history.was_left(1)
    add(history, "promote", 2, 1)
    assert (history.was_left(1), history.was_left(2)) == (True, False)
    add(history, "promote", 2, 2)
    assert not history.was_left(2)
    add(history, "canary", 1, 1)
    assert not history.was_left(1)
    add(history, "rollback", 1, 2)
    assert (history.was_left(1), history.was_left(2)) == (False, True)
    add(history, "promote", 3, 1)
    assert history.was_left(1)


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_line_cut_off_by_a_crash_costs_only_itself(history: History, kept: int) -> None:
    add(history, "promote", 2, 1)
    whole = history.path.read_bytes()
    history.path.write_bytes(whole + whole[:kept])
    assert next(history.events()).version == 2
    add(history, "promote", 3, 2)
    assert [e.version for e in history.events()][-1] == 3
    assert history.before_last_change(3) == 2


def test_lines_of_others_are_passed_over(history: History) -> None:
    add(history, "promote", 2, 1)
    with history.path.open("a", encoding="utf-8") as file:
        file.write('[]\n7\n"x"\nnull\n\n{"at": "now"}\n{"from": "a newer release"}\n')
    add(history, "promote", 3, 2)
    assert [e.version for e in history.events()] == [2, 3]


@pytest.mark.parametrize(
    "line",
    [
        b'{"at": ' + b"[" * 100_000,
        b'{"more": ' + b"[" * 100_000,
        b'{"at": "now", "version": ' + b"1" * 5000 + b"}",
        b'{"at": "\xff"}',
        b"\xff",
        b'{"at": "now", "action": "promote", "version": "two", "before": 1, "weights_hash": "", "who": "me"}',
    ],
    ids=["deep", "deep in an unknown key", "5 000 digits", "no UTF-8", "no text", "another type"],
)
def test_damaged_lines_are_passed_over(history: History, line: bytes) -> None:
    add(history, "promote", 2, 1)
    with history.path.open("ab") as file:
        file.write(line + b"\n")
    add(history, "promote", 3, 2)
    assert [e.version for e in history.events()] == [2, 3]
    assert history.before_last_change(3) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"weights_hash": None},
        {"version": 4.0},
        {"before": 3.0},
        {"reason": 7},
        {"retired": None},
        {"who": []},
    ],
    ids=str,
)
def test_a_value_of_another_type_leaves_the_way_back(history: History, other: dict[str, object]) -> None:
    add(history, "promote", 4, 3)
    line = json.loads(history.path.read_text("utf-8")) | other
    history.path.write_text(json.dumps(line) + "\n", "utf-8")
    assert history.before_last_change(4) == 3
    assert history.served() == [4, 3]
    (event,) = history.events()
    assert isinstance(event.weights_hash, str)
    assert isinstance(event.version, int)


def test_an_outcome_that_is_no_text_is_not_done(history: History) -> None:
    add(history, "promote", 4, 3)
    line = json.loads(history.path.read_text("utf-8")) | {"outcome": None}
    history.path.write_text(json.dumps(line) + "\n", "utf-8")
    assert history.before_last_change(4) is None


def test_an_event_with_a_key_of_another_release_is_kept(history: History) -> None:
    add(history, "promote", 2, 1)
    line = json.loads(history.path.read_text("utf-8")) | {"version": 3, "before": 2, "ticket": "ops-7"}
    with history.path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    assert [e.version for e in history.events()] == [2, 3]
    assert history.before_last_change(3) == 2
    assert "ops-7" in history.path.read_text("utf-8")


def test_a_reason_that_is_no_text_is_kept(history: History) -> None:
    """As a command line gives it where a byte of an argument is no UTF-8."""
    event = Event(timestamp(), "publish", 2, None, "", os.fsdecode(b"f\xfcr"), who="somebody")
    history.append(event)
    assert history.last() == event


def test_a_line_is_an_event_as_json(history: History) -> None:
    add(history, "publish", 2, None)
    (event,) = history.events()
    assert json.loads(history.path.read_text("utf-8")) == json.loads(json.dumps(event.to_json())) == {
        "at": event.at, "who": "somebody", "action": "publish", "version": 2, "before": None,
        "weights_hash": "sha256:2", "outcome": "done", "reason": None, "retired": [],
        "model": "quorum_vote",
    }  # fmt: skip


def test_only_promotions_that_were_done_are_gone_back_over(history: History) -> None:
    add(history, "promote", 2, 1)
    add(history, "canary", 3, 2)
    add(history, "promote", 3, 2, outcome="undone: no")
    add(history, "rollback", 2, 9)
    assert history.before_last_change(2) == 1
    assert history.before_last_change(3) is None
    assert history.before_last_change(1) is None


def test_what_was_rolled_back_is_the_last_choice_until_it_is_promoted_again(history: History) -> None:
    add(history, "promote", 2, 1)
    add(history, "promote", 3, 2)
    add(history, "rollback", 2, 3)
    assert history.served() == [2, 1, 3]
    add(history, "promote", 3, 2)
    assert history.served() == [3, 2, 1]


def test_a_line_that_found_no_room_is_not_written_later(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(history, "promote", 2, 1)
    whole = history.path.read_bytes()
    with monkeypatch.context() as patch:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, limit[1]))
        # Room comes while what failed is cleared away.
        truncate = os.truncate

        def make_room(path: Path, size: int) -> None:
            truncate(path, size)
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)

        patch.setattr(os, "truncate", make_room)
        try:
            with pytest.raises(OSError):
                add(history, "promote", 3, 2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            signal.signal(signal.SIGXFSZ, handler)
    assert history.path.read_bytes() == whole


def test_promoting_a_version_over_itself_does_not_hide_the_one_before(history: History) -> None:
    """A channel that had stopped answering is promoted again to the version it was pinned to."""
    add(history, "promote", 2, 1)
    add(history, "promote", 2, 2)
    assert history.before_last_change(2) == 1

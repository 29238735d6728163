# SPDX-License-Identifier: Apache-2.0
"""Every line of the logs becomes one line of JSON, also while they are moved aside and emptied."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from quorum.server import log_file
from quorum.server.json_log import Follower, JsonLog, wrapped
from quorum.serving.log import json_line


def parsed(lines: list[str]) -> list[Any]:
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)
    return [json.loads(line) for line in lines]


def test_a_line_of_triton_has_its_time_level_place_and_text() -> None:
    year = time.gmtime().tm_year
    line = 'E0101 00:00:01.250000 16148 model.cc:12] "failed to \\"load\\"\\n of a"'
    assert json.loads(wrapped(line, "server")) == {
        "time": f"{year}-01-01T00:00:01.250000Z",
        "level": "error",
        "logger": "triton",
        "message": 'failed to "load"\n of a',
        "place": "model.cc:12",
    }


@pytest.mark.parametrize(
    "line",
    [
        "+----+",
        "Error: Failed to initialize NVML",
        "E1399 99:99:99.000000 1 a.cc:1] no such day",
        '{"time": not json',
        'I1201 02:15:03.123456 1 a.cc:1] half a "line',
        '{"time":"2026","level":"info","logger":"a","message":"of a library"}',
        '{"time":"1970-01-01T00:00:00.000000Z","message":"without a level"}',
        '{"time":' + "[" * 100_000,
    ],
)
def test_a_line_in_no_known_form_is_kept_whole(line: str) -> None:
    found = json.loads(wrapped(line, "server"))
    assert found["message"] == line.partition("] ")[2] if found["logger"] == "triton" else line
    assert found["level"]
    assert found["time"]


def test_a_line_of_a_step_goes_on_as_it_is() -> None:
    line = json_line(0.0, "warning", "quorum.x", "text", {"member": "alpha", "trace_id": ""})
    assert wrapped(line, "server") == line
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.000000Z", "level": "warning", "logger": "quorum.x", "message": "text",
        "member": "alpha",
    }  # fmt: skip


def test_a_note_loses_the_time_that_it_begins_with_and_no_control_character_goes_out() -> None:
    lines: list[str] = []
    JsonLog(lines.append).note("2026-12-01 02:15:03 UTC it \x1b[31m died", "warning")
    (found,) = parsed(lines)
    assert (found["level"], found["message"]) == ("warning", "it \x1b[31m died")
    assert "\x1b" not in lines[0]


def test_no_line_is_lost_while_a_log_is_moved_aside_and_emptied(tmp_path: Path) -> None:
    log, lines = tmp_path / "server.log", list[str]()
    log.write_text("of an earlier server\n", encoding="utf-8")
    follower = Follower(JsonLog(lines.append), [log, tmp_path / "gateway.log"])

    def write(*texts: str) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.writelines(f"{text}\n" for text in texts)

    expected = ["first"]
    with follower:
        log_file.set_aside(log)
        write("first")
        for round_ in range(3):
            # Fewer than before: a log that is emptied at 64 MiB is not as long again at the next look.
            many = [f"line {number} of round {round_}" for number in range(500 - 200 * round_)]
            write(*many)
            expected += many
            until = time.monotonic() + 60
            while len(lines) < len(expected):
                assert time.monotonic() < until
                time.sleep(0.005)
            # Before the next look.
            write(f"last of round {round_}")
            assert log_file.bound(log, 1)
            write(f"after round {round_}")
            expected += [f"last of round {round_}", f"after round {round_}"]
        (tmp_path / "gateway.log").write_text("gateway\n", encoding="utf-8")
        with log.open("a", encoding="utf-8") as file:
            file.write("no end")
    messages = [line["message"] for line in parsed(lines)]
    assert [message for message in messages if message != "gateway"] == [*expected, "no end"]
    assert messages.count("gateway") == 1


def test_a_reader_that_is_gone_holds_nothing_up() -> None:
    def write(_: str) -> None:
        raise BrokenPipeError

    JsonLog(write).note("text")

# SPDX-License-Identifier: Apache-2.0
"""A log that is private, bounded and read from its end, also while it is written to."""

from __future__ import annotations

from pathlib import Path

from quorum.server import log_file


def test_a_log_that_others_could_read_is_the_owners_alone(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.touch(0o644)
    with open(log, "ab", opener=log_file.open_private):
        assert log.stat().st_mode & 0o777 == 0o600


def test_a_log_beyond_its_limit_is_emptied_under_its_writer(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with open(log, "ab", opener=log_file.open_private, buffering=0) as writer:
        for round_ in range(3):
            writer.write(b"%d" % round_ * 60)
            assert log_file.bound(log, 100) is (round_ > 0 and round_ % 2 == 1)
    older = tmp_path / "server.log.1"
    assert older.read_bytes() == b"0" * 60 + b"1" * 60
    assert log.read_bytes() == b"2" * 60
    assert [path.stat().st_mode & 0o777 for path in (log, older)] == [0o600, 0o600]
    assert sorted(tmp_path.iterdir()) == [log, older]


def test_the_log_of_the_start_before_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    for text in ("first", "second"):
        log_file.set_aside(log)
        log.write_text(text, encoding="utf-8")
    assert (tmp_path / "server.log.1").read_text("utf-8") == "first"
    log_file.set_aside(tmp_path / "none.log")
    assert not log_file.bound(tmp_path / "none.log")


def test_the_tail_is_the_last_lines_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("".join(f"line {i} ü\n" for i in range(100_000)), encoding="utf-8")
    assert log_file.tail(log).splitlines() == [f"line {i} ü" for i in range(99_960, 100_000)]
    assert log_file.tail(tmp_path / "none.log") == ""

# SPDX-License-Identifier: Apache-2.0
"""A fault of every request is logged once per second, and its repeats are counted."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from quorum.serving.log import JSON, LOG_FORMAT, RepeatFormatter, RepeatLimit, about, limit_repeats, log_as

_TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO, list[float]]]:
    """A logger, what it wrote, and its clock."""
    now, text = [0.0], io.StringIO()
    handler, logger = logging.StreamHandler(text), logging.getLogger("test-of-repeats")
    handler.addFilter(RepeatLimit(lambda: now[0]))
    handler.setFormatter(RepeatFormatter())
    logger.addHandler(handler)
    yield logger, text, now
    logger.removeHandler(handler)
    handler.close()


def fail(logger: logging.Logger, member: str, error: Exception) -> None:
    try:
        raise error
    except ValueError:
        logger.exception("member %s: question failed", member)


def test_each_fault_is_logged_once_per_second_with_the_number_left_out(
    log: tuple[logging.Logger, io.StringIO, list[float]],
) -> None:
    logger, text, now = log
    for step in range(2000):
        now[0] = step / 1000
        fail(logger, "alpha", ValueError("100% broken"))
    written = text.getvalue()
    assert written.count("Traceback") == 1
    first, last = written.splitlines()[0], written.splitlines()[-1]
    assert re.fullmatch(rf"{_TIME} member alpha: question failed", first)
    assert re.sub(f"^{_TIME} ", "", last) == (
        "member alpha: question failed: ValueError('100% broken')"
        " (999 more since the last line of this fault)"
    )
    written_at = datetime.strptime(first[:19] + "+0000", "%Y-%m-%d %H:%M:%S%z")
    assert abs(written_at.timestamp() - time.time()) < 60
    assert written.count("member alpha") == 2


def test_faults_of_others_and_of_another_type_are_logged(
    log: tuple[logging.Logger, io.StringIO, list[float]],
) -> None:
    logger, text, _ = log
    fail(logger, "alpha", ValueError("x"))
    fail(logger, "beta", ValueError("x"))
    fail(logger, "alpha", UnicodeError("x"))
    logger.warning("loaded %s", {"a": 1})
    logger.warning("no arguments")
    assert text.getvalue().count("Traceback") == 3
    assert re.search(rf"{_TIME} loaded {{'a': 1}}\n{_TIME} no arguments\n$", text.getvalue())


def test_the_limit_is_set_once_for_all_steps_of_a_process(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger("quorum"), "handlers", [])
    limit_repeats()
    limit_repeats()
    for _ in range(100):
        fail(logging.getLogger("quorum.serving.member"), "alpha", ValueError("x"))
    assert capfd.readouterr().err.count("member alpha") == 1


def test_a_line_of_json_has_the_ids_of_the_request_its_thread_works_on(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(LOG_FORMAT, JSON)
    monkeypatch.setattr(logging.getLogger("quorum"), "handlers", [])
    limit_repeats()
    log_as("shared", ["alpha", "beta"])
    about("request-1", "a" * 32)
    try:
        for _ in range(3):
            fail(logging.getLogger("quorum.serving.member"), "beta", ValueError("x\ny"))
        other = threading.Thread(target=logging.getLogger("quorum.other").warning, args=("of %s", "none"))
        other.start()
        other.join()
    finally:
        log_as("")
        about("", "")
    first, second = map(json.loads, capfd.readouterr().err.splitlines())
    assert first.pop("traceback").startswith("Traceback")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first.pop("time"))
    assert first == {
        "level": "error", "logger": "quorum.serving.member", "message": "member beta: question failed",
        "step": "shared", "member": "beta", "request_id": "request-1", "trace_id": "a" * 32,
        "error": "ValueError('x\\ny')",
    }  # fmt: skip
    assert second.keys() == {"time", "level", "logger", "message", "step"}

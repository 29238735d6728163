# SPDX-License-Identifier: Apache-2.0
"""The log of requests: what stands in it, what does not, sampling and rotation."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from support.http_half import KEY, exchange, request_of, serving

from quorum.gateway.http.exchange import hash_of_id
from quorum.gateway.settings import RequestLog

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
BODY = json.dumps({"text": "a secret shoe", "id": "sku-7"}).encode()
HEADERS = {"x-request-id": "r1", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def run(folder: Path, *requests: bytes, **log: Any) -> list[dict[str, Any]]:
    """Send requests one after another, and read the log."""
    path = folder / "requests.jsonl"

    async def send() -> None:
        async with serving(folder, request_log=RequestLog(str(path), **log)) as port:
            for request in requests:
                await exchange(port, request)

    asyncio.run(send())
    return lines(path) if path.exists() else []


def test_a_line_names_who_asked_what_came_of_it_and_no_secret(tmp_path: Path) -> None:
    (line,) = run(tmp_path, request_of("POST", "/v1/extract", BODY, headers=HEADERS))
    assert {key: line[key] for key in line if key not in ("time", "ms")} == {
        "request_id": "r1",
        "caller": "shop",
        "method": "POST",
        "path": "/v1/extract",
        "status": 503,
        "outcome": "UNAVAILABLE",
        "channel": "quorum",
        "products": 1,
        "product": hash_of_id("sku-7"),
        "characters": len("a secret shoe"),
        "trace_id": TRACE,
    }
    path = tmp_path / "requests.jsonl"
    written = path.read_text("utf-8")
    assert not [secret for secret in (KEY, "secret shoe", "sku-7") if secret in written]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_texts_stand_in_it_where_they_are_asked_for(tmp_path: Path) -> None:
    (line,) = run(tmp_path, request_of("POST", "/v1/extract", BODY), texts=True)
    assert line["texts"] == ["a secret shoe"]


def test_answers_are_sampled_and_failures_are_not(tmp_path: Path) -> None:
    good, bad = request_of("GET", "/v2"), request_of("GET", "/v2/models/x")
    assert [line["status"] for line in run(tmp_path, *[good] * 5, bad, share=0.0)] == [404]
    assert [line["status"] for line in run(tmp_path, good)][-1] == 200


def test_strangers_do_not_fill_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"

    async def crowd() -> None:
        async with serving(tmp_path) as port:
            wrong = request_of("GET", "/v2", key="wrong")
            await asyncio.gather(*(exchange(port, wrong) for _ in range(150)))
            await exchange(port, request_of("GET", "/v2"))

    asyncio.run(crowd())
    found = lines(path)
    assert len(found) < 150
    assert sum(line.get("dropped", 0) for line in found) + len(found) == 151


def test_nothing_that_a_stranger_sends_makes_a_long_line(tmp_path: Path) -> None:
    long = "A" * 15_000
    ids = {"x-request-id": long, "traceparent": f"00-{TRACE}-{long}"}
    for request in (request_of(long, "/v2", key=None), request_of("GET", f"/{long}", key=None, headers=ids)):
        run(tmp_path, request)
    assert max(map(len, (tmp_path / "requests.jsonl").read_text("utf-8").splitlines())) < 500


def test_a_renamed_log_is_opened_again(tmp_path: Path) -> None:
    path, older = tmp_path / "requests.jsonl", tmp_path / "requests.jsonl.1"

    async def rotate() -> None:
        async with serving(tmp_path) as port:
            await exchange(port, request_of("GET", "/v2"))
            path.rename(older)
            await exchange(port, request_of("GET", "/v2"))

    asyncio.run(rotate())
    assert len(lines(older)) == len(lines(path)) == 1


def test_a_log_that_cannot_be_opened_loses_lines_and_no_answers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its folder is missing at the start; later it is moved away; lines come again once it is back."""
    folder, away = tmp_path / "logs", tmp_path / "away"
    path = folder / "requests.jsonl"

    async def ask(port: int) -> None:
        assert (await exchange(port, request_of("GET", "/v2"))).startswith(b"HTTP/1.1 200")

    async def run() -> None:
        async with serving(tmp_path, request_log=RequestLog(str(path))) as port:
            await ask(port)
            folder.mkdir()
            await ask(port)
            folder.rename(away)
            await ask(port)
            await ask(port)
            folder.mkdir()
            await ask(port)

    asyncio.run(run())
    assert len(lines(away / path.name)) == len(lines(path)) == 1
    assert caplog.text.count("cannot be written") == 1

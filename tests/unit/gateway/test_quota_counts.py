# SPDX-License-Identifier: Apache-2.0
"""Counts of callers while another process holds them, and the files that they take."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from quorum.gateway import callers as module
from quorum.gateway import keys as keys_module
from quorum.gateway.callers import Callers
from quorum.gateway.keys import Caller, Keys, hash_of, read_callers, remove_caller
from quorum.serving.budget import CALLERS, counts_path, read_windows
from quorum_client.errors import Unavailable

SHOP = Caller("shop", hash_of("key"), cost_per_day=100.0)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Lock counts, as a gateway that is stopped in the middle does."""
    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def test_an_answer_that_cannot_be_counted_now_is_counted_later(tmp_path: Path) -> None:
    async def run() -> None:
        callers = Callers(Keys(None, [SHOP]), tmp_path)
        admitted = await callers.begin(SHOP)
        with held(counts_path(tmp_path, "shop", CALLERS)):
            with admitted:
                admitted.cost = 5.0
            ticks = asyncio.create_task(tick())
            with pytest.raises(Unavailable, match="another process"):
                await callers.begin(SHOP)
            # The loop goes on meanwhile.
            assert ticks.done()
        await callers.close()
        assert not callers._counting

    async def tick() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(run())
    assert read_windows(tmp_path, "shop", CALLERS)[1].cost == 5.0


def test_an_answer_that_cannot_be_counted_at_all_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_COUNT_PAUSES_S", (0.0, 0.0))

    async def run() -> None:
        callers = Callers(Keys(None, [SHOP]), tmp_path)
        admitted = await callers.begin(SHOP)
        with held(counts_path(tmp_path, "shop", CALLERS)):
            with admitted:
                admitted.cost = 5.0
            await callers.close()

    asyncio.run(run())
    assert "'shop' lacks an answer of cost 5: another process holds its lock" in caplog.text


def test_changed_limits_and_removed_callers_leave_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "_LOOK_S", 0.0)
    path = tmp_path / "keys.json"

    def write(limit: int) -> None:
        keys_module._write(path, [Caller("shop", hash_of("key"), requests_per_day=limit)])

    def open_counts() -> int:
        return sum(file.path.startswith(str(tmp_path)) for file in psutil.Process().open_files())

    async def run() -> None:
        keys_module.add_caller(path, "app")
        write(1)
        callers = Callers(Keys(path), tmp_path)
        for limit in range(2, 22):
            write(limit)
            caller = callers.identify("Bearer key")
            assert caller.requests_per_day == limit
            with await callers.begin(caller):
                pass
        assert open_counts() == 1
        key = keys_module.add_caller(path, "other")
        remove_caller(path, "shop")
        with await callers.begin(callers.identify(f"Bearer {key}")):
            pass
        assert open_counts() == 0
        assert [caller.name for caller in read_callers(path)] == ["other"]

    asyncio.run(run())

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from pathlib import Path

import pytest

from quorum.serving.regions import make_private


def test_mapped_regions_become_their_owners_alone_and_others_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory, maps = tmp_path / "shm", tmp_path / "maps"
    memory.mkdir()
    for path in (memory / "mapped", memory / "foreign", tmp_path / "library"):
        path.touch(0o644)
    at = "7f0000000000-7f0000001000 rw-s 00000000 00:1a 42        "
    names = [memory / "mapped", memory / "mapped", tmp_path / "library", f"{memory}/gone (deleted)", "[heap]"]
    maps.write_text("".join(f"{at} {name}\n" for name in names), encoding="utf-8")
    make_private(maps, memory)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (*memory.iterdir(), tmp_path / "library")}
    assert modes == {"mapped": 0o600, "foreign": 0o644, "library": 0o644}
    assert caplog.records == []
    maps.write_text(f"{at} {memory / 'gone'}\n", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        make_private(maps, memory)
    assert "may be readable by other users" in caplog.text

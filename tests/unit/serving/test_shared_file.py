# SPDX-License-Identifier: Apache-2.0
"""What the steps of a server share belongs to that server alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from quorum.serving import shared_file
from quorum.serving.admission import CAPACITY, admission_of, own_admission
from quorum.serving.shared_file import MARK, open_shared, own_server, server_name


@contextmanager
def process(mark: str) -> Iterator[int]:
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, env={**os.environ, MARK: mark}, stdin=subprocess.PIPE) as made:
        yield made.pid


def test_servers_with_one_process_id_share_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in two containers with one /dev/shm, or where a process id is given to another server."""
    monkeypatch.setattr(shared_file, "SHARED_MEMORY", tmp_path)
    monkeypatch.setenv(MARK, "quorum-server-7-one")
    now = time.monotonic_ns()
    assert own_admission().claim(CAPACITY, now, now + 10**12, 1)
    own_admission().close_gate()
    monkeypatch.setenv(MARK, "quorum-server-7-other")
    assert own_admission().inside(now) == 0
    assert not own_admission().is_closed
    assert {path.name for path in tmp_path.iterdir()} == {
        "quorum-server-7-one_admission",
        "quorum-server-7-other_admission",
    }


def test_the_tickets_of_a_server_are_found_by_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_file, "SHARED_MEMORY", tmp_path)
    monkeypatch.setenv(MARK, "quorum-server-7-one")
    own_admission().close_gate()
    with process("quorum-server-7-one") as server, process("quorum-server-7-other") as other:
        assert [admission_of(pid).is_closed for pid in (server, other)] == [True, False]


def test_a_server_without_a_mark_is_known_by_its_process_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MARK, raising=False)
    assert own_server() == f"quorum-{os.getppid()}"
    with process("") as server:
        assert server_name(server) == f"quorum-{server}"
    with pytest.raises(FileNotFoundError):
        server_name(server)


def test_a_file_is_never_cut_and_no_link_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    long = open_shared(path, 16384)
    open_shared(path, 4096)[0] = 1
    assert long[0] == 1
    assert path.stat().st_size == 16384
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(OSError, match="symbolic link"):
        open_shared(link, 4096)

# SPDX-License-Identifier: Apache-2.0
"""What a member notes of its endpoints, as `quorum status` reads it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from quorum.processes import SERVER_FOLDER
from quorum.runtimes.remote.note import EndpointState, RemoteNote, RemoteState, remote_states, shortened

ENDPOINT = EndpointState("https://api.example.com", "open", 12.5, 2, "HTTP 500: no", scores=None, p50_s=0.25)


def state(member: str = "gpt", process: int | None = None, questions: int = 3) -> RemoteState:
    return RemoteState(member, process or os.getpid(), (ENDPOINT,), questions, 1, 0)


def test_a_note_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVER_FOLDER, str(tmp_path))
    note = RemoteNote()
    note.write(state())
    assert remote_states(tmp_path) == {"gpt": state()}
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.stat().st_ino
    note.write(state())
    assert path.stat().st_ino == before, "nothing new was written"
    note.write(state(questions=4))
    assert remote_states(tmp_path)["gpt"].questions == 4
    assert state().to_json()["endpoints"][0]["url"] == "https://api.example.com"


def test_processes_that_have_ended_and_damaged_files_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SERVER_FOLDER, str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    RemoteNote().write(state("gone", ended.pid))
    RemoteNote().write(state("here"))
    (tmp_path / "endpoints-broken.1.json").write_text("{")
    assert remote_states(tmp_path).keys() == {"here"}


def test_without_a_server_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SERVER_FOLDER, raising=False)
    RemoteNote().write(state())
    monkeypatch.setenv(SERVER_FOLDER, str(tmp_path / "gone"))
    RemoteNote().write(state())
    assert list(tmp_path.iterdir()) == []


def test_long_problems_fit_a_line() -> None:
    assert shortened("short") == "short"
    assert len(shortened("x" * 5000)) == 300

# SPDX-License-Identifier: Apache-2.0
"""What a step notes about its worker, as other processes read it."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import msgspec
import pytest

from quorum.processes import SERVER_FOLDER
from quorum.serving.isolation.state import StateNote, WorkerState, worker_states


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(SERVER_FOLDER, str(tmp_path))
    return tmp_path


def test_a_worker_is_noted_from_its_first_answer(folder: Path) -> None:
    note = StateNote("alpha")
    assert worker_states(folder) == {}
    note.ready()
    first = worker_states(folder)["alpha"]
    assert (first.ready, first.failures, first.step) == (True, 0, os.getpid())
    note.lost("(pid 7) was ended by SIGKILL", 0.0)
    lost = worker_states(folder)["alpha"]
    note.lost("did not start", 4.0)
    again = worker_states(folder)["alpha"]
    assert (again.ready, again.failures, again.reason) == (False, 2, "did not start")
    assert again.why == "(pid 7) was ended by SIGKILL, then did not start"
    assert lost.why == "(pid 7) was ended by SIGKILL"
    assert again.since == lost.since >= first.since, "it is down since the first loss"
    assert again.next_start == pytest.approx(again.failed_at + 4.0)
    note.ready()
    back = worker_states(folder)["alpha"]
    assert (back.ready, back.failures, back.reason) == (True, 2, "did not start")


def test_of_a_worker_that_never_answered_the_last_reason_is_all(folder: Path) -> None:
    note = StateNote("alpha")
    for reason in ("did not start: no file", "did not start: no memory"):
        note.lost(reason, 0.0)
    assert worker_states(folder)["alpha"].why == "did not start: no memory"


def test_a_step_that_is_dead_counts_no_more_and_one_that_answers_counts_first(folder: Path) -> None:
    def write(state: WorkerState) -> None:
        (folder / f"worker-{state.model}.{state.step}.json").write_bytes(msgspec.json.encode(asdict(state)))

    dead = WorkerState("alpha", 2**22 + 1, True, 1.0)
    write(dead)
    assert worker_states(folder) == {}
    write(replace(dead, step=os.getppid(), ready=False))
    assert not worker_states(folder)["alpha"].ready
    write(replace(dead, step=os.getpid()))
    assert worker_states(folder)["alpha"].step == os.getpid()
    (folder / "worker-damaged.1.json").write_bytes(b"{")
    assert set(worker_states(folder)) == {"alpha"}


def test_without_a_folder_nothing_is_written_and_none_is_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = StateNote("alpha")
    shutil.rmtree(folder)
    note.ready()
    assert not folder.exists()
    monkeypatch.delenv(SERVER_FOLDER)
    StateNote("alpha").lost("x" * 10_000, 0.0)

# SPDX-License-Identifier: Apache-2.0
"""The ledger of a bulk job: what it keeps, counts, and writes anew."""

from __future__ import annotations

import csv
import gzip
import json
import resource
import shutil
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.bulk_jobs import Job, answer, begun, listing, scan_of

from quorum.bulk.inputs.records import BadRow
from quorum.bulk.inputs.scan import Scan
from quorum.bulk.ledger import Entry, Ledger, LedgerError, NewWeights, StorageFailed, folder
from quorum.bulk.outputs import OutputError, Outputs, target_of


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path / "files")


def rows_of(job: Job) -> list[dict[str, str]]:
    with (job.folder / "answers.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@contextmanager
def disk_with(free: int, path: Path) -> Iterator[None]:
    """No file may grow beyond so many bytes more than this one has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _votes_in(name: str) -> Outputs:
    return Outputs(targets=(target_of("votes", name),))


def test_the_same_call_again_asks_nothing_and_changes_nothing(job: Job) -> None:
    names = job.run()
    written, asked = job.written(), job.asked
    stamps = {path: path.stat().st_mtime_ns for path in job.folder.iterdir()}
    assert job.run() == names == (f"{job.folder}/answers.csv", f"{job.folder}/votes.jsonl")
    assert (job.written(), job.asked) == (written, asked)
    assert {path: path.stat().st_mtime_ns for path in job.folder.iterdir()} == stamps
    assert asked == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kept", ["a byte", "half", "all but its end", "all but a byte of the header"])
def test_a_line_that_was_cut_off_is_dropped(job: Job, tmp_path: Path, kept: str) -> None:
    journal = begun(job)
    header, line = journal.read_bytes().splitlines(keepends=True)
    left = {"a byte": 1, "half": len(line) // 2, "all but its end": len(line) - 1}.get(kept, -1)
    journal.write_bytes((header + line)[: len(header) + left])
    job.run()
    whole = Job(tmp_path / "whole")
    whole.run()
    assert (job.written(), job.asked) == (whole.written(), [0, 1, 2, 2, 3, 4])


def test_a_full_disk_loses_nothing(job: Job, tmp_path: Path) -> None:
    journal = begun(job, 4)
    before = journal.read_bytes()
    with job.begin() as ledger:
        entry = Entry.of(4, "s-4", job.ask(4))
        with disk_with(20, journal), pytest.raises(StorageFailed, match=r"000001\.journal: File too large"):
            ledger.append(1, entry)
        assert journal.read_bytes() == before, "half a line may not stay"
        assert ledger.counts.tally.answered == 4
        # The same process may go on as well.
        ledger.append(1, entry)
        rows = [(row, listing(row)) for row in (2, 3, 4)]
        with disk_with(-len(before) + 10, journal), pytest.raises(StorageFailed, match="Make room"):
            ledger.commit(1, rows)
        assert ledger.counts.committed == 0
    with job.begin() as ledger:
        job.work_on(ledger)
        votes = next((job.path / "parts").glob("*.votes.jsonl"))
        with disk_with(20, votes), pytest.raises(StorageFailed, match="Make room"):
            ledger.finish()
    assert not (job.folder / "votes.jsonl").exists()
    job.run()
    whole = Job(tmp_path / "whole")
    whole.run()
    assert job.written() == whole.written()
    assert sorted(job.asked) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["answers.csv", "votes/part-000001.parquet", "votes"])
def test_an_output_that_is_gone_is_written_again_from_the_journals(tmp_path: Path, name: str) -> None:
    job = Job(tmp_path / "files", votes="votes/")
    job.run()
    written, path = job.written(), job.folder / name
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    job.run()
    assert (job.written(), job.asked) == (written, [0, 1, 2, 3, 4])
    assert "is gone; it is written again" in job.notes[0]
    job.run()
    assert len(job.notes) == 1


def test_a_part_without_votes_is_not_missed(tmp_path: Path) -> None:
    job = Job(tmp_path / "files", votes="votes/", bad=frozenset({0, 1}))
    job.run()
    job.run()
    assert [path.name for path in (job.folder / "votes").iterdir()] == ["part-000001.parquet"]
    assert job.notes == []


def test_it_is_on_the_disk_that_a_job_is_not_complete_before_a_part_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(tmp_path / "files", failing=frozenset({0}))
    job.run()
    synced: list[bool] = []
    monkeypatch.setattr(
        folder,
        "sync_folder",
        lambda path: synced.append(path == job.path and not (path / "complete.json").exists()),
    )
    with job.begin() as ledger:
        assert next(ledger.pending(retry_failed=True))
        ledger.append(0, Entry.of(0, "s-0", job.ask(0)))
    assert synced == [True]


def test_a_retry_asks_what_failed_and_writes_its_parts_anew(tmp_path: Path) -> None:
    job = Job(tmp_path / "files", out="answers/", votes=None, rows=(2, 2, 2), failing=frozenset({2}))
    job.run()
    folder = job.folder / "answers"
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir()}
    with job.begin() as ledger:
        tally = ledger.counts.tally
        assert (tally.answered, tally.failed, list(ledger.pending())) == (5, 1, [])
    job.failing = frozenset()
    with job.begin() as ledger:
        (pending,) = ledger.pending(retry_failed=True)
        assert (pending.part.number, list(pending.entries)) == (1, [3])
        ledger.append(1, Entry.of(2, "s-2", job.ask(2)))
        assert (ledger.counts.tally.answered, ledger.counts.tally.failed) == (6, 0)
        # Until the part is whole, the old one stands.
        path = folder / "part-000001.parquet"
        assert path.read_bytes() == before[path.name][1]
        ledger.commit(1, [(row, listing(row)) for row in (2, 3)])
        ledger.finish()
    after = {path.name: (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir()}
    assert [name for name in before if before[name] != after[name]] == ["part-000001.parquet"]
    right = Job(tmp_path / "right", out="answers/", votes=None, rows=(2, 2, 2))
    right.run()
    assert job.written() == right.written()
    assert job.asked == [0, 1, 2, 3, 4, 5, 2]


def test_it_is_known_without_reading_parts_whether_a_row_is_to_be_asked(tmp_path: Path) -> None:
    job = Job(tmp_path / "files", bad=frozenset({0}), failing=frozenset({4}))
    with job.begin() as ledger:
        assert ledger.has_rows_to_ask()
        for row in range(1, 5):
            ledger.append(row // 2 - row // 4, Entry.of(row, f"s-{row}", job.ask(row)))
        assert ledger.has_rows_to_ask(), "it is not known yet that row 0 is bad"
    job.run()
    (job.path / "complete.json").unlink()
    with job.begin() as ledger:
        assert (ledger.has_rows_to_ask(), ledger.has_rows_to_ask(retry_failed=True)) == (False, True)
    (job.path / "parts" / "000001.journal.gz").unlink()
    (job.folder / "answers.csv").unlink()
    (job.path / "parts" / "000001.answers.csv").unlink()
    with job.begin() as ledger:
        assert ledger.has_rows_to_ask(), "outcomes are gone"


def test_bad_rows_are_dead_letters(tmp_path: Path) -> None:
    job = Job(tmp_path / "files", bad=frozenset({1, 2, 3, 4}))
    job.row = lambda row: (  # type: ignore[method-assign]
        BadRow(row, "in.csv:7", "no UTF-8", "a\udcffä") if row == 1 else Job.row(job, row)
    )
    job.run()
    lines = (job.folder / "answers.csv.dead.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["row"] for line in lines] == [2, 3, 4, 5]
    assert json.loads(lines[0]) == {"row": 2, "place": "in.csv:7", "reason": "no UTF-8", "raw": "a\udcffä"}
    assert json.loads(lines[1])["raw"] == '"shoe, größe'
    assert [row["sku"] for row in rows_of(job)] == ["s-0"]
    with job.begin() as ledger:
        assert (ledger.counts.tally.bad, ledger.counts.tally.done, ledger.counts.rows) == (4, 5, 5)


def test_a_job_that_nothing_was_asked_of_leaves_nothing(job: Job) -> None:
    job.begin().close()
    assert not job.path.exists()
    (job.folder / "answers.csv").write_text("theirs")
    with pytest.raises(OutputError):
        job.begin()
    assert not job.path.exists()


def test_only_the_own_files_of_a_job_are_removed(job: Job) -> None:
    with job.begin():
        (job.path / "input").mkdir()
        (job.path / "input" / "feed.csv").write_text("mine")
    assert [found for found in job.path.rglob("*") if found.is_file()] == [job.path / "input" / "feed.csv"]


def test_what_a_job_is_of_can_be_read(job: Job) -> None:
    assert Ledger.stored(job.path) is None
    begun(job)
    stored = Ledger.stored(job.path)
    assert stored is not None
    assert Scan.from_json(stored["input"]) == scan_of(2, 3)
    (job.path / "job.json").write_text('{"kind":"quorum.extract","schema_version":2,"spec":{}}')
    with pytest.raises(LedgerError, match="another release"):
        Ledger.stored(job.path)
    (job.path / "job.json").write_text("[")
    with pytest.raises(LedgerError, match="damaged"):
        Ledger.stored(job.path)


def test_each_channel_has_weights_of_its_own(job: Job) -> None:
    begun(job)
    with job.begin() as ledger:
        ledger.append(1, Entry.of(3, "s-3", answer(3, 4, "quorum_canary")))
        with pytest.raises(NewWeights, match="'quorum_canary'"):
            ledger.append(1, Entry.of(4, "s-4", answer(4, 5, "quorum_canary")))


def test_counts_are_of_earlier_runs_too(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"bad": frozenset({1}), "failing": frozenset({3})}
    whole = Job(tmp_path / "whole", **settings)
    with whole.begin() as ledger:
        whole.work_on(ledger)
        wanted = ledger.counts
        assert (wanted.rows, wanted.parts, wanted.committed) == (5, 2, 2)
        tally = wanted.tally
        assert (tally.answered, tally.failed, tally.bad, tally.done) == (3, 1, 1, 5)
        assert (tally.decided, tally.undecided) == (5, {"NO_ANSWER": 1})
        assert (tally.voted, tally.abstained) == (10, {"a": {"ERROR": 1}, "b": {"ERROR": 1}})
        assert (tally.errors, tally.messages) == ({"DEADLINE_EXCEEDED": 1}, {"DEADLINE_EXCEEDED": "too late"})
        assert (tally.spent.calls, tally.spent.cost) == (6, pytest.approx(0.003))
    job = Job(tmp_path / "files", **settings)
    begun(job, 1)
    with job.begin() as ledger:
        assert (ledger.counts.tally.answered, ledger.counts.committed) == (1, 0)
        next(ledger.pending())
        assert ledger.counts.tally.answered == 1
        job.work_on(ledger)
        assert ledger.counts == wanted
    with job.begin() as ledger:
        assert ledger.counts == wanted


def test_the_same_job_gives_the_same_journals(tmp_path: Path) -> None:
    packed = []
    for name in ("one", "two"):
        job = Job(tmp_path / name / "files", changes={"outputs": _votes_in("votes.jsonl")})
        with pytest.MonkeyPatch.context() as patch:
            (tmp_path / name).mkdir(exist_ok=True)
            patch.chdir(tmp_path / name)
            job.run()
        packed.append((job.path / "parts" / "000001.journal.gz").read_bytes())
    assert packed[0] == packed[1]
    assert packed[0][4:8] == bytes(4), "the time of writing, by RFC 1952"
    assert len(gzip.decompress(packed[0]).splitlines()) == 4


def test_memory_is_bounded_by_a_part(tmp_path: Path) -> None:
    peaks = []
    for parts in (3, 12):
        job = Job(tmp_path / f"{parts}", rows=(60,) * parts, out="answers.jsonl", votes="votes/")
        job.ask = answer  # type: ignore[method-assign]
        tracemalloc.start()
        job.run()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0], peaks


def test_failed_rows_are_looked_for_in_the_memory_of_one_part(tmp_path: Path) -> None:
    job = Job(tmp_path / "work", rows=(40,) * 20, failing=frozenset(range(0, 800, 40)))
    job.run()

    def held(keep: bool) -> int:
        with job.begin() as ledger:
            tracemalloc.start()
            found = [
                pending if keep else pending.part.number for pending in ledger.pending(retry_failed=True)
            ]
            held_bytes, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert len(found) == 20
        return held_bytes

    assert held(keep=False) < held(keep=True) / 5


def test_what_is_to_be_retried_counts_as_it_did_until_it_is_asked(tmp_path: Path) -> None:
    """A cluster reads all that is pending before it asks; a run that ends then has counted right."""
    job = Job(tmp_path / "files", rows=(2, 2), bad=frozenset({1}), failing=frozenset({0, 3}))
    job.run()
    with job.begin() as ledger:
        before = ledger.counts
        for _ in range(2):
            found = list(ledger.pending(retry_failed=True))
            assert [pending.bad_counted for pending in found] == [True, True]
            assert ledger.counts == before
        ledger.append(0, Entry.of(0, "s-0", answer(0)))
        assert (ledger.counts.tally.bad, ledger.counts.committed) == (1, 1)
        ledger.commit(0, [(0, job.row(0)), (1, job.row(1))])
        assert (ledger.counts.tally.bad, ledger.counts.committed) == (1, 2)

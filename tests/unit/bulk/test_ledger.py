# SPDX-License-Identifier: Apache-2.0
"""The ledger of a bulk job: what it refuses, what it keeps, and what it writes anew."""

from __future__ import annotations

import csv
import gzip
import json
import os
import resource
import shutil
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.bulk_jobs import CATALOGUE, Job, answer, listing, scan_of

from quorum.bulk.inputs.records import BadRow
from quorum.bulk.inputs.scan import Scan
from quorum.bulk.ledger import Entry, JobLocked, Ledger, LedgerError, NewWeights, StorageFailed, folder
from quorum.bulk.outputs import OutputError, Outputs, target_of
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.votes import VotesError


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path / "files")


def rows_of(job: Job) -> list[dict[str, str]]:
    with (job.folder / "answers.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def begun(job: Job, rows: int = 3) -> Path:
    """Ask the first rows, as if the process was killed then; the journal of the last."""
    with job.begin() as ledger:
        for pending in ledger.pending():
            part = pending.part
            for row in range(part.first, min(part.first + part.rows, rows)):
                ledger.append(part.number, Entry.of(row, f"s-{row}", job.ask(row)))
    return max((job.path / "parts").glob("*.journal"))


@contextmanager
def disk_with(free: int, path: Path) -> Iterator[None]:
    """No file may grow beyond so many bytes more than this one has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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


def test_a_journal_of_another_job_is_refused(job: Job, tmp_path: Path) -> None:
    other = Job(tmp_path / "other", changes={"mapping": {"text": ["sku"]}})
    foreign, mine = begun(other), begun(job)
    shutil.copy(foreign, mine)
    with pytest.raises(LedgerError, match=r"000001\.journal: this journal is of another job"):
        job.run()
    assert job.asked == [0, 1, 2]
    mine.unlink()
    job.run()
    assert [row["sku"] for row in rows_of(job)] == [f"s-{row}" for row in range(5)]


def test_a_journal_of_another_part_is_refused(job: Job) -> None:
    mine = begun(job)
    shutil.copy(mine.with_name("000000.journal"), mine)
    with pytest.raises(LedgerError, match="another job or part"):
        job.run()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'{"row":2', b'{"row":1', r"line 2: row 1 is of another part or job; the file is damaged"),
        (b'{"row":2', b"{row:2", "line 2: .*the file is damaged. Remove it to ask its rows again"),
        (b'"answers"', b'"answer"', "line 2: .*damaged"),
        (b'"quorum.extract.journal"', b'"else"', "is no journal of a bulk job"),
        (b'"schema_version":1', b'"schema_version":2', "another release"),
        (b'{"kind"', b'{"kind', "line 1: .*no journal"),
        (b'"product":"s-2"', b'"product":"s-9"', "row 3: the journal has 's-9' as row 3, the input 's-2'"),
    ],
)
def test_a_damaged_journal_is_refused(job: Job, old: bytes, new: bytes, message: str) -> None:
    journal = begun(job)
    raw = journal.read_bytes()
    assert old in raw
    journal.write_bytes(raw.replace(old, new))
    with pytest.raises(LedgerError, match=message):
        job.run()


def test_a_damaged_packed_journal_is_refused(tmp_path: Path) -> None:
    job = Job(tmp_path / "files", failing=frozenset({1}))
    job.run()
    packed = job.path / "parts" / "000000.journal.gz"
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(LedgerError, match="damaged"):
        job.run(retry=True)


def test_a_damaged_list_of_what_was_written_is_refused(job: Job) -> None:
    job.run()
    (job.path / "written.jsonl").write_text("{}\n")
    with pytest.raises(OutputError, match=r"written.jsonl, line 1: damaged .*; move the outputs"):
        job.run()


def test_two_processes_do_not_work_on_one_job(job: Job) -> None:
    with job.begin() as ledger:
        child = os.fork()
        if child == 0:
            try:
                job.begin()
            except JobLocked as error:
                os._exit(7 if "wait for its end, or stop it" in str(error) else 8)
            os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        job.work_on(ledger)
        ledger.finish()
    assert job.asked == [0, 1, 2, 3, 4]
    job.run()


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


def test_a_place_that_cannot_be_written_is_named(job: Job) -> None:
    with pytest.raises(StorageFailed, match="/proc/job"):
        Ledger.begin(Path("/proc/job"), job.spec)
    with job.begin() as ledger:
        job.work_on(ledger)
        shutil.move(job.path, job.folder.parent / "kept")
        shutil.rmtree(job.folder)
        with pytest.raises(StorageFailed, match=r"/files/answers\.csv: No such file"):
            ledger.finish()
    job.folder.mkdir()
    shutil.move(job.folder.parent / "kept", job.path)
    job.run()
    assert [row["sku"] for row in rows_of(job)] == [f"s-{row}" for row in range(5)]
    assert job.asked == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["answers.csv", "votes.jsonl", "answers.csv.dead.jsonl"])
def test_an_output_of_others_is_not_overwritten(job: Job, name: str) -> None:
    path = job.folder / name
    path.write_text("theirs")
    option = {"answers.csv": "--out", "votes.jsonl": "--votes"}.get(name, "the dead letters")
    with pytest.raises(OutputError, match=f"^{option} .*{name} exists.*--force"):
        job.run()
    assert (path.read_text(), job.asked) == ("theirs", [])


def test_force_replaces_an_output_at_the_end_only(job: Job) -> None:
    path = job.folder / "answers.csv"
    path.write_text("theirs")
    with job.begin(force=True) as ledger:
        job.work_on(ledger)
        assert path.read_text() == "theirs"
        ledger.finish()
    assert len(rows_of(job)) == 5
    job.run()


def test_an_output_that_appears_while_the_job_runs_is_kept(job: Job) -> None:
    path = job.folder / "answers.csv"
    with job.begin() as ledger:
        job.work_on(ledger)
        path.write_text("theirs")
        with pytest.raises(OutputError, match=r"answers\.csv exists"):
            ledger.finish()
    assert path.read_text() == "theirs"
    assert [found.name for found in job.folder.glob(".*")] == []
    path.unlink()
    job.run()
    assert (len(rows_of(job)), job.asked) == (5, [0, 1, 2, 3, 4])


def test_an_output_that_was_edited_is_not_overwritten_by_a_retry(tmp_path: Path) -> None:
    job = Job(tmp_path / "files", failing=frozenset({4}))
    job.run()
    path = job.folder / "answers.csv"
    path.write_bytes(path.read_bytes() + b"my own line\n")
    job.failing = frozenset()
    with pytest.raises(OutputError, match=r"answers\.csv exists, and is not as this job wrote it"):
        job.run(retry=True)
    assert path.read_bytes().endswith(b"my own line\n")
    job.run(retry=True, force=True)
    assert [row["error"] for row in rows_of(job)] == [""] * 5


@pytest.mark.parametrize("option", ["out", "votes"])
@pytest.mark.parametrize("force", [True, False])
def test_a_folder_with_other_files_is_refused(tmp_path: Path, option: str, force: bool) -> None:
    names: dict[str, Any] = {option: "folder/"}
    job = Job(tmp_path / "files", **names)
    (job.folder / "folder").mkdir()
    (job.folder / "folder" / "part-000000.parquet").write_text("theirs")
    with pytest.raises(
        OutputError, match=r"folder/ holds 'part-000000.parquet' already; name another folder"
    ):
        job.run(force=force)
    assert (job.folder / "folder" / "part-000000.parquet").read_text() == "theirs"


def test_a_part_file_of_others_is_not_overwritten(tmp_path: Path) -> None:
    job = Job(tmp_path / "files", out="answers/")
    with job.begin() as ledger:
        (job.folder / "answers").mkdir()
        (job.folder / "answers" / "part-000001.parquet").write_text("theirs")
        with pytest.raises(OutputError, match=r"part-000001.parquet exists.*or name another folder$"):
            job.work_on(ledger)
    assert (job.folder / "answers" / "part-000001.parquet").read_text() == "theirs"
    (job.folder / "answers" / "part-000001.parquet").unlink()
    job.run()
    assert job.asked == [0, 1, 2, 3, 4]


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attributes": ("color",)}, "--attributes was color,size, is color. "),
        ({"mapping": {"text": ["title", "sku"]}}, r"columns.text\[1\] was not given, is sku"),
        ({"mapping": {"columns": {"text": ["title", "sku"]}}}, "--text was not given, is title,sku"),
        ({"members": ("a", "c")}, "the members were a,b, are a,c"),
        ({"channel": "quorum_canary"}, "--channel was quorum, is quorum_canary"),
        ({"lazy": True}, "--lazy was not given, is given"),
        ({"canary_share": 0.5}, "--canary-share was not given, is 0.5"),
        ({"scan": scan_of(2, 4)}, r"input.parts\[1\].rows was 3, is 4"),
        (
            {"catalogue": Catalogue.of([*CATALOGUE.attributes.values(), Attribute("x")])},
            r"the catalogue of deploy.yaml \(attributes, values, notes\) was another",
        ),
        (
            {"outputs": Outputs(targets=(target_of("votes", "else.jsonl"),))},
            r"--out was .*answers\.csv, is not given",
        ),
    ],
)
def test_another_command_is_refused(job: Job, changes: dict[str, Any], message: str) -> None:
    begun(job)
    job.changes = changes
    with pytest.raises(LedgerError, match=f"is the job of another command: {message}"):
        job.run()
    job.changes = {}
    job.run()
    assert sorted(job.asked) == [0, 1, 2, 3, 4]


def test_a_folder_with_other_files_is_no_job(job: Job) -> None:
    job.path.mkdir()
    (job.path / "thesis.tex").write_text("mine")
    with pytest.raises(LedgerError, match=r"is the folder of no job: it holds 'thesis.tex'"):
        job.run()
    assert [path.name for path in job.path.iterdir()] == ["thesis.tex"]
    assert Ledger.stored(job.path) is None


@pytest.mark.parametrize("name", ["input/feed.csv", "input/stdin-notes", "parts/wheel.stl", "lock"])
def test_files_of_others_in_folders_that_a_job_has_too_are_kept(job: Job, name: str) -> None:
    path = job.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    with pytest.raises(LedgerError, match=f"is the folder of no job: it holds '{name}'"):
        job.begin()
    assert [found for found in job.path.rglob("*") if found.is_file()] == [path]


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


def test_other_weights_are_refused_before_their_answer_is_written(job: Job) -> None:
    journal = begun(job)
    before = journal.read_bytes()
    job.version = 4
    with pytest.raises(
        NewWeights,
        match=r"version 4 .* now, version 3 answered .*disagree: `quorum status.*`quorum promote 3`",
    ):
        job.run()
    assert journal.read_bytes() == before
    with job.begin() as ledger, pytest.raises(NewWeights, match="--accept-new-weights"):
        ledger.check_weights("quorum", 4)
    job.run(accept_new_weights=True)
    assert [row["weights_version"] for row in rows_of(job)] == ["3", "3", "3", "4", "4"]
    assert job.notes == ["version 4 of the weights answers on channel 'quorum' from here on"]
    # Of both, each is known now.
    job.run()


def test_each_channel_has_weights_of_its_own(job: Job) -> None:
    begun(job)
    with job.begin() as ledger:
        ledger.append(1, Entry.of(3, "s-3", answer(3, 4, "quorum_canary")))
        with pytest.raises(NewWeights, match="'quorum_canary'"):
            ledger.append(1, Entry.of(4, "s-4", answer(4, 5, "quorum_canary")))


def test_the_input_must_be_as_it_was(job: Job) -> None:
    begun(job, 5)
    with job.begin() as ledger:
        rows = [(row, listing(row)) for row in range(5)]
        with pytest.raises(LedgerError, match="part 0: 1 rows, 2 when the job was begun"):
            ledger.commit(0, rows[:1])
        with pytest.raises(LedgerError, match="part 0: row 2 of the input is missing"):
            ledger.commit(0, [rows[0], rows[2]])
        with pytest.raises(LedgerError, match="the job has no part 7"):
            ledger.commit(7, [])
        with pytest.raises(LedgerError, match="row 4 is not in part 0"):
            ledger.append(0, Entry.of(4, "s-4", answer(4)))
        with pytest.raises(LedgerError, match="2 of 2 parts are not done"):
            ledger.finish()
        ledger.commit(0, rows[:2])


def test_a_row_without_an_outcome_is_not_passed_over(job: Job) -> None:
    begun(job, 1)
    with job.begin() as ledger, pytest.raises(LedgerError, match=r"in.csv: row 2: no outcome yet"):
        ledger.commit(0, [(row, listing(row)) for row in range(2)])
    assert list((job.path / "parts").glob("*.gz")) == []


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


def _votes_in(name: str) -> Outputs:
    return Outputs(targets=(target_of("votes", name),))


def test_votes_of_members_that_changed_are_refused_by_the_table(job: Job) -> None:
    with job.begin() as ledger:
        ledger.append(0, Entry.of(0, "s-0", answer(0)))
        found = answer(1)
        votes = tuple(vote for vote in found.answers[0].votes if vote.member == "a")
        fewer = type(found)("id", (type(found.answers[0])("color", "red", 0.5, votes),), 3, 0.01)
        ledger.append(0, Entry.of(1, "s-1", fewer))
        with pytest.raises(VotesError, match="a table has one set of members"):
            ledger.commit(0, [(row, listing(row)) for row in range(2)])


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

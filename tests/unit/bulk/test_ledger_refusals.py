# SPDX-License-Identifier: Apache-2.0
"""What the ledger of a bulk job refuses: other jobs, damage, outputs of others."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.bulk_jobs import CATALOGUE, Job, answer, begun, listing, scan_of

from quorum.bulk.ledger import Entry, JobLocked, Ledger, LedgerError, NewWeights, StorageFailed
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


def test_votes_of_members_that_changed_are_refused_by_the_table(job: Job) -> None:
    with job.begin() as ledger:
        ledger.append(0, Entry.of(0, "s-0", answer(0)))
        found = answer(1)
        votes = tuple(vote for vote in found.answers[0].votes if vote.member == "a")
        fewer = type(found)("id", (type(found.answers[0])("color", "red", 0.5, votes),), 3, 0.01)
        ledger.append(0, Entry.of(1, "s-1", fewer))
        with pytest.raises(VotesError, match="a table has one set of members"):
            ledger.commit(0, [(row, listing(row)) for row in range(2)])

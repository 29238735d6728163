# SPDX-License-Identifier: Apache-2.0
"""Jobs over bad rows, standard input and several files; what cannot be read, written or asked."""

from __future__ import annotations

import io
import json
import shutil
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.runs import ROWS, answer, failing, options, rows_of, serve

import quorum
from quorum.bulk import run as job_run
from quorum.bulk.ask import NoAttributesError, UnknownAttributeError, attributes_of
from quorum.bulk.dry_run import estimate_extract
from quorum.bulk.job_input import TooManyBad
from quorum.bulk.ledger import LedgerError
from quorum.bulk.outputs import OutputError
from quorum.bulk.progress import JobProgress
from quorum.deployment.schema import AttributeSpec
from quorum_client import (
    DeadlineExceeded,
    InvalidRequest,
    Unreachable,
)
from quorum_contract.errors import QuorumError


def test_a_retry_counts_the_bad_rows_of_its_parts_once(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "".join(f"s{n},{'' if n in (5, 6) else n}\n" for n in range(ROWS))
    Path("in.csv").write_text("sku,title\n" + lines, "utf-8")
    texts: list[str] = []
    serve(monkeypatch, texts, failing({7: [DeadlineExceeded("late")]}))
    assert quorum.extract(deployment, "in.csv", options(max_bad=3)).failed == 1
    del texts[:]
    seen: list[JobProgress] = []
    again = options(max_bad=3, retry_failed=True)
    report = quorum.extract(deployment, "in.csv", again, progress=seen.append)
    assert (texts, report.ended, report.failed, report.bad) == (["7"], "complete", 0, 2)
    assert max(state.bad for state in seen) == 2


def test_a_dry_run_says_and_checks_bad_rows_and_that_a_job_is_begun(
    deployment: quorum.Deployment, asked: list[str]
) -> None:
    bad = {5: "", 6: "x" * 40_000}
    lines = "".join(f"s{n},{bad.get(n, n)}\n" for n in range(ROWS))
    Path("in.csv").write_text("sku,title\n" + lines, "utf-8")
    with pytest.raises(TooManyBad, match=r"2 of 50 rows are bad, 1 are allowed. The first: in\.csv: row 6"):
        quorum.estimate_extract(deployment, "in.csv", options(url="localhost:1"))
    quorum.extract(deployment, "in.csv", options(max_bad=2))
    del asked[:]
    notes: list[str] = []
    again = options(max_bad=2, url="localhost:1")
    assert quorum.estimate_extract(deployment, "in.csv", again, note=notes.append).requests == ROWS - 2
    assert any(
        note.startswith("2 of 50 rows are bad and not asked; the first: in.csv: row 6") for note in notes
    )
    assert any(note.startswith("out.csv.job is begun: the estimate is for all rows") for note in notes)
    assert not asked


def test_a_dry_run_finds_gold_of_the_wrong_kind_and_reads_no_outputs(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the run itself does."""
    Path("in").mkdir()
    Path("in/a.jsonl").write_text(
        '{"sku": "s", "title": "t", "gold": {"color": [["red", "x"]]}}\n' * 2, "utf-8"
    )
    Path("in/out.jsonl").write_text('{"sku": "s", "title": "t"}\n', "utf-8")
    chosen = options(out="in/out.jsonl", votes=None, url="localhost:1", max_bad=0, force=True)
    with pytest.raises(TooManyBad, match=r"^2 of 2 rows are bad, 0 are allowed\. .*a\.jsonl: row 1: gold of"):
        estimate_extract(deployment, "in", chosen)


def test_bad_rows_are_dead_letters_and_end_the_run_before_it_asks(
    deployment: quorum.Deployment, asked: list[str]
) -> None:
    bad = {5: "", 6: "x" * 40_000}
    lines = "".join(f"s{n},{bad.get(n, n)}\n" for n in range(ROWS))
    Path("in.csv").write_text("sku,title\n" + lines, "utf-8")
    with pytest.raises(TooManyBad, match=r"2 of 50 rows are bad, 1 are allowed. The first: in\.csv: row 6"):
        quorum.extract(deployment, "in.csv", options())
    assert asked == []
    assert not Path("out.csv.job").exists()
    report = quorum.extract(deployment, "in.csv", options(max_bad=2))
    assert (report.answered, report.failed, report.bad, report.left) == (ROWS - 2, 0, 2, 0)
    assert len(rows_of()) == ROWS - 2
    dead = [json.loads(line) for line in Path("out.csv.dead.jsonl").read_text("utf-8").splitlines()]
    assert [line["row"] for line in dead] == [6, 7]
    assert "32768" in dead[1]["reason"]
    assert "out.csv.dead.jsonl" in report.outputs


@pytest.mark.parametrize(
    ("given", "rows", "allowed"), [("1%", 50, 1), ("0", 9, 0), (7, 9, 7), ("50 %", 9, 5)]
)
def test_bad_rows_are_allowed_as_a_number_or_a_share(given: Any, rows: int, allowed: int) -> None:
    assert options(max_bad=given).bad_allowed(rows) == allowed


@pytest.mark.parametrize("given", ["-1", "1.5", "101%", "some", "nan"])
def test_a_number_of_bad_rows_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(InvalidRequest, match="max_bad"):
        options(max_bad=given).check()


def test_a_failed_start_keeps_the_input_in_the_folder_that_is_named_as_the_job(
    deployment: quorum.Deployment, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> int:
        raise Unreachable("gone")

    monkeypatch.setattr(job_run, "served_version", away)
    feed = Path("data/input/feed.csv")
    feed.parent.mkdir(parents=True)
    shutil.copy("in.csv", feed)
    with pytest.raises(LedgerError, match=r"data is the folder of no job: it holds 'input/feed\.csv'"):
        quorum.extract(deployment, str(feed), options(job="data"))
    assert feed.read_bytes() == Path("in.csv").read_bytes()
    assert list(Path("data").iterdir()) == [feed.parent]


def pipe(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_a_job_over_standard_input_goes_on_with_its_copy(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = Path("in.csv").read_bytes()

    def away(*_: Any) -> int:
        raise Unreachable("gone")

    pipe(monkeypatch, content)
    with monkeypatch.context() as patch:
        patch.setattr(job_run, "served_version", away)
        with pytest.raises(Unreachable):
            quorum.extract(deployment, "-", options())
    texts: list[str] = []
    pipe(monkeypatch, b"")
    serve(monkeypatch, texts, failing({30: KeyboardInterrupt()}))
    assert quorum.extract(deployment, "-", options()).ended == "interrupted"
    serve(monkeypatch, texts, answer)
    pipe(monkeypatch, b"sku,title\na,1\n")
    with pytest.raises(LedgerError, match=r"standard input: is not what the job in out\.csv\.job began with"):
        quorum.extract(deployment, "-", options())
    for again in (b"", content):
        pipe(monkeypatch, again)
        report = quorum.extract(deployment, "-", options())
        assert (report.ended, report.answered) == ("complete", ROWS)
    (copy,) = Path("out.csv.job/input").iterdir()
    assert copy.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"sku,price\na,1\n", b'sku,title\na,"1\n'])
def test_standard_input_that_is_refused_leaves_nothing(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    pipe(monkeypatch, content)
    with pytest.raises(QuorumError):
        quorum.extract(deployment, "-", options())
    assert not Path("out.csv.job").exists()


def test_copies_of_standard_input_that_no_job_has_are_removed(
    deployment: quorum.Deployment, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path("out.csv.job/input")
    folder.mkdir(parents=True)
    for name in (".stdin-abcdefgh", "stdin-0123456789abcdef"):
        (folder / name).write_text("of a killed run")
    pipe(monkeypatch, Path("in.csv").read_bytes())
    quorum.extract(deployment, "-", options())
    (copy,) = folder.iterdir()
    assert copy.read_bytes() == Path("in.csv").read_bytes()


def test_refused_rows_count_as_bad_over_all_runs(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both runs end in the middle, after as many refused rows as are too many, those of before included."""
    texts: list[str] = []
    failures: dict[int, Any] = {n: InvalidRequest("too long") for n in (5, 25, 30, 35)}
    serve(monkeypatch, texts, failing(failures | {27: [KeyboardInterrupt()]}))
    report = quorum.extract(deployment, "in.csv", options(max_bad=2))
    assert (report.ended, report.failed) == ("interrupted", 2)
    del texts[:]
    with pytest.raises(
        TooManyBad, match=r"^3 of 50 rows are bad, 2 are allowed\. .*in\.csv: row 31: too long"
    ):
        quorum.extract(deployment, "in.csv", options(max_bad=2))
    assert "35" not in texts
    report = quorum.extract(deployment, "in.csv", options(max_bad=4))
    assert (report.ended, report.failed) == ("complete", 4)


def test_bad_rows_count_once_where_failed_rows_are_asked_again(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "".join(f"s{n},{'' if n == 5 else n}\n" for n in range(ROWS))
    Path("in.csv").write_text("sku,title\n" + lines, "utf-8")
    serve(monkeypatch, [], failing({9: [DeadlineExceeded("late")]}))
    assert quorum.extract(deployment, "in.csv", options()).failed == 1
    report = quorum.extract(deployment, "in.csv", options(retry_failed=True))
    assert (report.answered, report.failed, report.bad) == (ROWS - 1, 0, 1)


def test_gold_of_the_wrong_kind_is_found_before_anything_is_asked(
    deployment: quorum.Deployment, asked: list[str]
) -> None:
    gold = ['{"color": ["red"]}'] * 8 + ['{"color": [["red", "shade"]]}'] * 2
    lines = [json.dumps({"sku": f"s{n}", "title": str(n), "gold": json.loads(g)}) for n, g in enumerate(gold)]
    Path("in.jsonl").write_text("\n".join(lines), "utf-8")
    with pytest.raises(
        TooManyBad, match=r"^2 of 10 rows are bad, 1 are allowed\. .*in\.jsonl: row 9: gold of"
    ):
        quorum.extract(deployment, "in.jsonl", options())
    assert asked == []
    report = quorum.extract(deployment, "in.jsonl", options(max_bad=2))
    assert (len(asked), report.answered, report.bad) == (8, 8, 2)
    letters = [json.loads(line) for line in Path("out.csv.dead.jsonl").read_text("utf-8").splitlines()]
    assert [letter["reason"][:15] for letter in letters] == ["gold of 'color'"] * 2


def test_several_files_make_one_job(deployment: quorum.Deployment, asked: list[str]) -> None:
    Path("more").mkdir()
    Path("more/a.jsonl").write_text('{"sku": "t1", "title": "101"}\n{"sku": "t2", "title": "102"}\n', "utf-8")
    report = quorum.extract(deployment, ["in.csv", "more"], options(out="answers/"))
    assert report.answered == ROWS + 2
    parts = sorted(Path("answers").iterdir())
    assert [path.suffix for path in parts] == [".parquet"] * 4
    shutil.rmtree("answers")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_parquet_with_times_and_decimals_is_written_in_every_format(
    deployment: quorum.Deployment, asked: list[str], ending: str
) -> None:
    at, price = datetime(2026, 12, 1, 8, tzinfo=UTC), Decimal("1.20")
    row = {
        "sku": Decimal(7),
        "title": "7",
        "seen": at,
        "prices": [price],
        "first": {"at": at, "raw": b"\xff"},
    }
    pq.write_table(pa.Table.from_pylist([row]), "in.parquet")
    report = quorum.extract(deployment, "in.parquet", options(out=f"out.{ending}", id="sku"))
    assert (report.ended, report.answered) == ("complete", 1)


def test_what_cannot_be_written_or_asked(deployment: quorum.Deployment) -> None:
    with pytest.raises(OutputError, match="nothing to write"):
        quorum.extract(deployment, "in.csv", quorum.ExtractOptions())
    with pytest.raises(NoAttributesError):
        attributes_of(deployment, [])
    with pytest.raises(UnknownAttributeError):
        attributes_of(deployment, ["colour"], is_open=False)


@pytest.mark.parametrize(
    ("files", "out", "error"),
    [
        ("in.csv", "in.csv", "that file is read"),
        ("feed", "feed/out.csv", "the input feed would hold it"),
        ("feed/*.csv", "feed/out.csv", "would hold it"),
    ],
)
def test_outputs_that_are_read_are_refused(
    deployment: quorum.Deployment, asked: list[str], files: str, out: str, error: str
) -> None:
    Path("feed").mkdir()
    shutil.copy("in.csv", "feed/in.csv")
    before = Path("in.csv").read_bytes()
    with pytest.raises(OutputError, match=error):
        quorum.extract(deployment, files, options(out=out, force=True))
    assert Path("in.csv").read_bytes() == before
    assert asked == []


@pytest.mark.parametrize(
    ("files", "change"),
    [("**/*.csv", {"out": "all.csv"}), ("feed", {"job": "feed/job"}), ("feed/**", {"job": "feed/job"})],
)
def test_a_pattern_does_not_stand_for_what_the_job_writes(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, files: str, change: dict[str, Any]
) -> None:
    Path("feed").mkdir()
    shutil.move("in.csv", "feed/in.csv")
    texts: list[str] = []
    serve(monkeypatch, texts, failing({30: KeyboardInterrupt()}))
    assert quorum.extract(deployment, files, options(**change)).ended == "interrupted"
    serve(monkeypatch, texts, answer)
    for _ in range(2):
        report = quorum.extract(deployment, files, options(**change))
        assert (report.ended, report.answered, report.rows) == ("complete", ROWS, ROWS)


def test_a_file_that_is_new_in_a_folder_is_not_left_out(
    deployment: quorum.Deployment, asked: list[str]
) -> None:
    Path("feed").mkdir()
    shutil.copy("in.csv", "feed/monday.csv")
    quorum.extract(deployment, "feed", options())
    shutil.copy("in.csv", "feed/tuesday.csv")
    with pytest.raises(LedgerError, match=r"feed/tuesday\.csv: is new since the job in out\.csv\.job began"):
        quorum.extract(deployment, "feed", options())
    assert len(asked) == ROWS


def test_unknown_attributes_are_remarked_with_the_nearest_name(deployment: quorum.Deployment) -> None:
    notes: list[str] = []
    assert attributes_of(deployment, ["colour", "brand"], notes.append) == ["colour", "brand"]
    (note,) = notes
    assert "did you mean 'color'?" in note
    assert attributes_of(deployment, None) == ["brand", "color", "size"]


def with_fields(deployment: quorum.Deployment) -> quorum.Deployment:
    pair = AttributeSpec(kind="label", values=["good", "bad"], fields=["query", "title"])
    return deployment.model_copy(update={"attributes": {"color": AttributeSpec(), "relevance": pair}})


def test_ask_refuses_fields_as_extract_does(deployment: quorum.Deployment) -> None:
    spec = with_fields(deployment)
    with pytest.raises(InvalidRequest, match=r"field 'brand' is none of .*; they are query, title"):
        quorum.ask(spec, {"query": "a", "brand": "b"}, ["relevance"])
    with pytest.raises(
        InvalidRequest, match=r"field 'query' is none of .*; there are none: give a plain text"
    ):
        quorum.ask(spec, {"query": "a"}, ["color"])
    with pytest.raises(NoAttributesError, match="ask for them separately"):
        quorum.ask(spec, "a text")

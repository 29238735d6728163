# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support.deployment import write_deployment, write_jsonl

from quorum.deployment import load_deployment
from quorum.operations.describe import MisfitError, validate
from quorum.runtimes import create
from quorum.runtimes.base import Generated, Question, Reply, RuntimeConfigError, RuntimeSettings, Usage
from quorum.runtimes.lookup_options import ReplayOptions
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.parse import parse_answer
from quorum.votes import build_table, read_votes, write_votes
from quorum.votes.schema import Cell
from quorum_contract import Spent, Status

ROWS: list[dict[str, Any]] = [
    {"category": "c", "title": "t", "attribute": "brand", "votes": {"m": "Nike", "other": None}},
    {"category": "c", "title": "t", "attribute": "size", "votes": {"m": "n/a", "other": "42"}},
    {"category": "", "title": "t", "attribute": "brand", "votes": {"m": None, "other": "x"}},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ROWS), encoding="utf-8")
    return tmp_path


def runtime(folder: Path, **options: Any) -> Any:
    return create(RuntimeSettings("m", folder, ReplayOptions(**{"votes": "votes.jsonl", **options})))


def question(category: str, *attributes: str, left_s: float = 3_600) -> Question:
    return Question("", "{}", "t", category, attributes, time.monotonic_ns() + int(left_s * 1e9))


def ask(runtime: Any, category: str, *attributes: str) -> Reply:
    replies: list[Reply] = []
    runtime.submit(question(category, *attributes), replies.append)
    (reply,) = replies
    return reply


def text_of(reply: Reply) -> str:
    assert isinstance(reply, Generated)
    assert not reply.log_probs
    return reply.text


def test_it_answers_what_was_recorded(folder: Path) -> None:
    m = runtime(folder)
    assert json.loads(text_of(ask(m, "c", "size", "brand"))) == {"size": "n/a", "brand": "Nike"}
    assert json.loads(text_of(ask(m, "c", "size", "unheard"))) == {"size": "n/a"}
    other = runtime(folder, recorded_as="other")
    assert json.loads(text_of(ask(other, "", "brand"))) == {"brand": "x"}


def record(monkeypatch: pytest.MonkeyPatch, scores: tuple[float | None, ...]) -> None:
    """Makes the table one with these scores of ``m``, as its reader gives it."""
    pairs = zip(("brand", "size"), ('Nike "é"', "n/a"), strict=True)
    cells = [
        Cell("1", "c", "t", name, (value, "x"), scores=scores[place : place + 1] * 2)
        for place, (name, value) in enumerate(pairs)
    ]
    rows = [(number, ("m", "other"), cell) for number, cell in enumerate(cells)]
    monkeypatch.setattr("quorum.runtimes.replay.read_rows", lambda *_, **__: iter(rows))


def test_recorded_scores_come_back_as_they_were(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(monkeypatch, (-0.10000000149011612, None))
    reply = ask(runtime(folder), "c", "size", "brand")
    assert isinstance(reply, Generated)
    assert reply.text == '{"size": "n/a", "brand": "Nike \\"é\\""}'
    pieces = [reply.text[a:b] for a, b in zip([0, *reply.ends], reply.ends, strict=False)]
    assert pieces == ['{"size": "', 'n/a"', ', "brand": "', 'Nike \\"é\\""', "}"]
    votes = parse_answer(Catalogue({}), ("size", "brand"), *reply[:3])
    assert [vote.score for vote in votes] == [None, -0.10000000149011612]


@pytest.mark.parametrize(
    ("scores", "options"), [((None, None), {}), ((), {}), ((-1.0, -2.0), {"scores": False})]
)
def test_a_table_without_scores_gives_plain_text(
    folder: Path, monkeypatch: pytest.MonkeyPatch, scores: tuple[float | None, ...], options: dict[str, bool]
) -> None:
    record(monkeypatch, scores)
    assert text_of(ask(runtime(folder, **options), "c", "size")) == '{"size": "n/a"}'


def test_it_abstains_where_nothing_was_recorded(folder: Path) -> None:
    m = runtime(folder)
    assert ask(m, "", "brand") is Status.NOT_ASKED
    assert ask(m, "elsewhere", "brand") is Status.NOT_ASKED
    assert ask(m, "c", "unheard") is Status.NOT_ASKED


def test_rehearsed_faults_come_as_often_as_asked(folder: Path) -> None:
    m = runtime(folder, fail_share=0.25, hang_share=0.25, seed=3)
    replies: list[Reply] = []
    failed = 0
    for _ in range(2_000):
        try:
            m.submit(question("c", "brand"), replies.append)
        except RuntimeError:
            failed += 1
    assert 400 < failed < 600
    assert 400 < 2_000 - failed - len(replies) < 600


def test_slow_answers_come_later_and_not_after_close(folder: Path) -> None:
    m = runtime(folder, latency_ms=1)
    came = threading.Event()
    m.submit(question("c", "brand"), lambda _: came.set())
    assert came.wait(30)
    never = runtime(folder, latency_ms=3_600_000)
    late: list[Reply] = []
    never.submit(question("c", "brand"), late.append)
    never.close()
    assert not never._later._thread.is_alive()
    assert late == []


@pytest.mark.parametrize("when", ["before", "while it waits", "after"])
def test_a_cancelled_question_is_settled_at_once_and_only_once(folder: Path, when: str) -> None:
    m = runtime(folder, latency_ms=1 if when == "after" else 3_600_000)
    asked, replies, came = question("c", "brand"), list[Reply](), threading.Event()

    def done(reply: Reply) -> None:
        replies.append(reply)
        came.set()

    if when == "before":
        asked.cancellation.cancel()
    m.submit(asked, done)
    if when == "after":
        assert came.wait(30)
    asked.cancellation.cancel()
    assert came.wait(30)
    asked.cancellation.cancel()
    m.close()
    assert len(replies) == 1
    assert (replies[0] == Status.TIMEOUT) == (when != "after")
    asked.cancellation.cancel()


def test_think_time_is_drawn_or_constant(folder: Path) -> None:
    def drawn(**options: object) -> list[float]:
        m = runtime(folder, latency_ms=40, **options)
        delays: list[float] = []
        m._later.close()
        m._later.settle = lambda delay_s, *_: delays.append(delay_s)  # type: ignore[method-assign]
        for _ in range(2000):
            m.submit(question("c", "brand"), lambda _: None)
        return delays

    assert set(drawn(latency_shape="constant")) == {0.04}
    exponential = drawn()
    assert sum(exponential) / len(exponential) == pytest.approx(0.04, rel=0.1)
    assert sum(delay > 0.04 for delay in exponential) / len(exponential) == pytest.approx(0.368, abs=0.04)


def test_a_hung_question_is_released_at_its_deadline_once(folder: Path) -> None:
    m = runtime(folder, hang_share=1)
    replies: list[Reply] = []
    came = threading.Event()

    def done(reply: Reply) -> None:
        replies.append(reply)
        came.set()

    asked = question("c", "brand", left_s=0.05)
    m.submit(asked, done)
    assert came.wait(30)
    assert asked.expired
    m.close()
    assert replies == [Status.TIMEOUT]


def test_a_hung_question_that_is_late_already_is_released_too(folder: Path) -> None:
    m = runtime(folder, hang_share=1)
    came = threading.Event()
    m.submit(question("c", "brand", left_s=-1), lambda _: came.set())
    assert came.wait(30)


def test_a_table_is_read_as_learning_reads_it(folder: Path) -> None:
    """What `quorum learn` takes, a dry run takes as well: no category, and lines that are empty."""
    row = {"category": None, "title": "t", "attribute": "size", "votes": {"m": "7", "other": None}}
    bare = {"title": "u", "attribute": "size", "votes": {"m": "8", "other": None}}
    with (folder / "votes.jsonl").open("a", encoding="utf-8") as file:
        file.write(f"\n{json.dumps(row)}\n  \n{json.dumps(bare)}\n\n")
    m = runtime(folder)
    assert json.loads(text_of(ask(m, "", "size"))) == {"size": "7"}
    assert len(read_votes(_with_products(folder)).cells) == len(ROWS) + 2


def test_a_table_in_columns_is_replayed_like_its_lines(folder: Path) -> None:
    pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
    write_votes(read_votes(_with_products(folder)), folder / "votes.parquet")
    m = create(RuntimeSettings("m", folder, ReplayOptions(votes="votes.parquet")))
    assert json.loads(text_of(ask(m, "c", "size", "brand"))) == {"size": "n/a", "brand": "Nike"}
    assert ask(m, "", "brand") is Status.NOT_ASKED


def _with_products(folder: Path) -> Path:
    """The same table with the ids that learning needs."""
    lines = (folder / "votes.jsonl").read_text("utf-8").split("\n")
    named = [
        json.dumps({"product": str(i), **json.loads(v)}) if v.strip() else v for i, v in enumerate(lines)
    ]
    (folder / "named.jsonl").write_text("\n".join(named), encoding="utf-8")
    return folder / "named.jsonl"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"votes": "nowhere.jsonl"}, ["'m'", "nowhere.jsonl"]),
        ({"recorded_as": "nobody"}, ["votes.jsonl", "'nobody'", "m, other"]),
    ],
)
def test_settings_that_do_not_fit_are_named(folder: Path, options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(RuntimeConfigError) as caught:
        runtime(folder, **options)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"votes": {"m": "x"}}', "7"])
def test_a_broken_row_is_named_by_file_and_line(folder: Path, line: str) -> None:
    with (folder / "votes.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(RuntimeConfigError, match=r"votes\.jsonl, line 4: "):
        runtime(folder)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        RuntimeConfigError, match=r"'m': votes: .*votes\.jsonl does not exist.*quorum extract"
    ):
        runtime(tmp_path)


@pytest.mark.parametrize("named", ["", None])
def test_no_fault_is_no_fault(folder: Path, named: str | None) -> None:
    if named is not None:
        (folder / "fault").write_text(named)
    m = runtime(folder, isolated=True, faults="fault")
    assert json.loads(text_of(ask(m, "c", "brand"))) == {"brand": "Nike"}


@pytest.mark.parametrize(
    ("named", "problem"), [("raise", "injected"), ("memory", "limit"), ("x", "no fault")]
)
def test_faults_that_raise(folder: Path, named: str, problem: str) -> None:
    (folder / "fault").write_text(f"{named}\n")
    m = runtime(folder, isolated=True, faults="fault")
    with pytest.raises(RuntimeError, match=problem):
        ask(m, "c", "brand")
    (folder / "fault").write_text("")
    assert json.loads(text_of(ask(m, "c", "brand"))) == {"brand": "Nike"}


def test_garbage_is_no_answer(folder: Path) -> None:
    (folder / "fault").write_text("garbage")
    reply = ask(runtime(folder, isolated=True, faults="fault"), "c", "brand")
    assert isinstance(reply, Generated)
    (vote,) = parse_answer(Catalogue({}), ["brand"], reply.text)
    assert vote.status == Status.UNPARSABLE


def usage_of(reply: Reply) -> Usage | None:
    assert isinstance(reply, Generated)
    return reply.usage


def test_it_says_the_tokens_that_were_recorded_for_what_is_asked(tmp_path: Path) -> None:
    spent = Spent(0.5, 150.4, 6.0, 100.0, 0.25)
    cells = [
        Cell("p", "c", "t", name, (value,), usage=(own,))
        for name, value, own in (("brand", "x", spent), ("size", "y", spent), ("fit", "z", None))
    ]
    write_votes(build_table(["m"], cells), tmp_path / "votes.jsonl")
    m = runtime(tmp_path)
    assert usage_of(ask(m, "c", "brand", "size")) == Usage(301, 12, 200)
    assert usage_of(ask(m, "c", "brand")) == Usage(150, 6, 100)
    assert usage_of(ask(m, "c", "brand", "fit")) is None, "of one it is not known"


def test_options_say_tokens_instead(folder: Path) -> None:
    assert usage_of(ask(runtime(folder), "c", "brand")) is None
    given = runtime(folder, prompt_tokens=300, answer_tokens=12)
    assert usage_of(ask(given, "c", "brand", "size")) == Usage(300, 12)
    assert usage_of(ask(runtime(folder, answer_tokens=12), "c", "brand")) == Usage(0, 12)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"text": "t", "attribute": "brand", "votes": {"m": "Nike"}}, "no `title`"),
        ({"title": "t", "attribute": "brand", "votes": {"n": "Nike"}}, "no votes of 'm'; recorded are: n"),
    ],
)
def test_votes_that_cannot_be_served_are_not_valid(tmp_path: Path, row: dict[str, Any], why: str) -> None:
    deployment = load_deployment(write_deployment(tmp_path, {"m": {}}))
    assert validate(deployment) == ()
    write_jsonl(tmp_path / deployment.members[0].options.votes, [row])
    with pytest.raises(MisfitError, match=r"members\[0\]\.options\.votes: .*" + why):
        validate(deployment)

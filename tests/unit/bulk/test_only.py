# SPDX-License-Identifier: Apache-2.0
"""`extract --only`: one member is asked, its votes join the table, and an interrupted run goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.deployment import write_deployment, write_jsonl
from typer.testing import CliRunner

import quorum
from quorum.bulk import only
from quorum.bulk.outputs import OutputError
from quorum.bulk.progress import JobProgress
from quorum.cli import app
from quorum.deployment.schema import AttributeSpec, VoteSpec
from quorum.votes import read_votes
from quorum_client import Answer, AsyncClient, Extraction, InvalidRequest, Status, Unreachable, Vote

ROWS = 6


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the member was asked about; its server is a stand-in, which answers "red"."""
    texts: list[str] = []

    @contextmanager
    def serving(deployment: quorum.Deployment) -> Iterator[str]:
        assert deployment.member_names == ["beta"]
        yield "127.0.0.1:1"

    async def extract(_: AsyncClient, text: str, names: list[str], **__: Any) -> Extraction:
        texts.append(text)
        vote = (Vote("beta", "red", Status.ANSWERED, -0.5),)
        return Extraction("id", tuple(Answer(name, "red", 1.0, vote) for name in names), 1, 0.01)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(only, "serving", serving)
    monkeypatch.setattr(AsyncClient, "extract", extract)
    return texts


@pytest.fixture
def deployment(tmp_path: Path) -> quorum.Deployment:
    """Two members, six listings, and a table with the votes of one of them on five of these."""
    lines = "".join(f"p{i},text {i}\n" for i in range(ROWS))
    (tmp_path / "in.csv").write_text("product,title\n" + lines, "utf-8")
    deployment = quorum.load_deployment(write_deployment(tmp_path, {"alpha": {}, "beta": {}}))
    rows = [
        {
            "product": f"p{i}",
            "title": f"text {i}",
            "attribute": attribute,
            "gold": ["red"] if i == 0 else [],
            "votes": {"alpha": "blue"},
            "shelf": i,
        }
        for i in range(ROWS - 1)
        for attribute in ("size", "color")
    ]
    write_jsonl(tmp_path / "old.jsonl", rows)
    return deployment


def options(**more: Any) -> quorum.ExtractOptions:
    return quorum.ExtractOptions(**{"votes": "old.jsonl", "only": ["beta"], "concurrency": 1} | more)


def test_its_votes_join_those_of_the_others(deployment: quorum.Deployment, asked: list[str]) -> None:
    notes: list[str] = []
    report = quorum.extract(deployment, "in.csv", options(), note=notes.append)
    assert asked == [f"text {i}" for i in range(ROWS - 1)]
    assert (report.answered, report.failed, report.left, report.ended) == (ROWS - 1, 0, 0, "complete")
    assert report.to_json()["only"] == ["beta"]
    table = read_votes("old.jsonl")
    assert table.members == ("alpha", "beta")
    assert {(cell.values, cell.scores, cell.origin) for cell in table.cells} == {
        (("blue", "red"), (None, -0.5), None)
    }
    assert [cell.attribute for cell in table.cells[:2]] == ["size", "color"]
    assert [bool(cell.gold) for cell in table.cells] == [True, True, *[False] * 8]
    assert Path("old.jsonl").read_text("utf-8").count('"shelf": ') == 10
    assert ["1 listings are not in old.jsonl" in note for note in notes] == [True]
    assert sorted(p.name for p in Path().glob("*only*")) == []
    quorum.extract(deployment, "in.csv", options(), note=notes.append)
    assert len(asked) == ROWS - 1
    assert "5 listings have votes of beta already: not asked again" in notes[-1]


def test_an_interrupted_run_goes_on(
    deployment: quorum.Deployment, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = AsyncClient.extract

    async def failing(client: AsyncClient, text: str, *arguments: Any, **named: Any) -> Extraction:
        if text == "text 1":
            raise InvalidRequest("too long")
        return await answer(client, text, *arguments, **named)

    def interrupt(state: JobProgress) -> None:
        if state.done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(AsyncClient, "extract", failing)
    report = quorum.extract(deployment, "in.csv", options(), progress=interrupt)
    assert (report.answered, report.failed, report.left, report.ended) == (2, 1, 2, "interrupted")
    assert sum(cell.values[1] is not None for cell in read_votes("old.jsonl").cells) == 4
    monkeypatch.setattr(AsyncClient, "extract", answer)
    asked.clear()
    report = quorum.extract(deployment, "in.csv", options())
    assert (report.answered, report.ended) == (3, "complete")
    assert asked == ["text 1", "text 3", "text 4"]
    assert {cell.values for cell in read_votes("old.jsonl").cells} == {("blue", "red")}


def test_votes_of_a_run_that_was_killed_are_not_asked_again(
    deployment: quorum.Deployment, asked: list[str]
) -> None:
    part = only.part_path(Path("old.jsonl"), ["beta"])
    rows = [{"product": "p0", "attribute": name, "votes": {"beta": "green"}} for name in ("size", "color")]
    write_jsonl(part, rows)
    quorum.extract(deployment, "in.csv", options())
    assert asked == [f"text {i}" for i in range(1, ROWS - 1)]
    assert [cell.values[1] for cell in read_votes("old.jsonl").cells] == ["green"] * 2 + ["red"] * 8
    assert not part.exists()


def test_files_of_new_votes_are_named_by_table_and_members() -> None:
    named = {
        only.part_path(Path(votes), names)
        for votes in ("rec.jsonl", "rec.parquet")
        for names in (["a-b"], ["a", "b"], ["a"], ["b"])
    }
    assert len(named) == 8


def test_votes_of_other_members_are_not_taken_for_those_of_a_killed_run(
    deployment: quorum.Deployment, asked: list[str]
) -> None:
    part = only.part_path(Path("old.jsonl"), ["beta"])
    write_jsonl(part, [{"product": "p0", "attribute": "size", "votes": {"be-ta": "green"}}])
    before = Path("old.jsonl").read_bytes()
    with pytest.raises(OutputError, match="has votes of be-ta, not of beta; merge them"):
        quorum.extract(deployment, "in.csv", options())
    assert (asked, Path("old.jsonl").read_bytes(), part.exists()) == ([], before, True)


def test_the_quorum_of_all_members_is_none_of_one_alone(deployment: quorum.Deployment) -> None:
    vote = deployment.vote.model_copy(update={"min_members": 2, "min_weight": 0.5, "grace_ms": 5.0})
    alone = only.members_alone(deployment.model_copy(update={"vote": vote}), ["beta"])
    assert alone.vote == VoteSpec()


def test_all_places_of_its_own_server_are_for_the_run(deployment: quorum.Deployment) -> None:
    gate = deployment.gate.model_copy(update={"max_in_flight": 40, "max_bulk_in_flight": 4})
    alone = only.members_alone(deployment.model_copy(update={"gate": gate}), ["beta"])
    assert (alone.gate.max_in_flight, alone.gate.max_bulk_in_flight) == (40, 40)


def test_abstentions_are_counted_by_member_and_reason(
    deployment: quorum.Deployment, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def abstain(_: AsyncClient, text: str, names: list[str], **__: Any) -> Extraction:
        found = text == "text 0"
        vote = Vote("beta", "red", Status.ANSWERED) if found else Vote("beta", None, Status.NOT_ASKED)
        return Extraction("id", tuple(Answer(name, None, 0.0, (vote,)) for name in names), 1, 0.01)

    monkeypatch.setattr(AsyncClient, "extract", abstain)
    report = quorum.extract(deployment, "in.csv", options())
    assert (report.answered, report.tally.voted) == (ROWS - 1, 2)
    assert report.tally.abstained == {"beta": {"NOT_ASKED": 8}}
    assert report.to_json()["abstained"] == {"beta": {"NOT_ASKED": 8}}
    assert not {"decided", "undecided"} & report.to_json().keys()
    result = CliRunner().invoke(app, ["extract", "in.csv", "--only", "beta", "--votes", "old.jsonl"])
    assert result.exit_code == 0
    assert "no vote in 8 of 8 cases: beta 8 NOT_ASKED; they are asked again by the next run" in result.stderr


def test_a_server_of_its_own_that_ended_is_not_waited_for(
    deployment: quorum.Deployment, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: Any, **__: Any) -> Extraction:
        raise Unreachable("gone")

    monkeypatch.setattr(AsyncClient, "extract", gone)
    notes: list[str] = []
    report = quorum.extract(deployment, "in.csv", options(), note=notes.append)
    assert (report.answered, report.failed) == (0, ROWS - 1)
    assert not [note for note in notes if "waits" in note]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"only": ["delta"]}, "the members of .* are alpha, beta"),
        ({"only": []}, "name the recorded table"),
        ({"votes": None}, "name the recorded table"),
        ({"votes": "none.jsonl"}, "name the recorded table"),
        ({"out": "out.csv"}, "--only and --out"),
        ({"url": "host:1"}, "--only and --url"),
        ({"channel": "quorum_canary"}, "--only and --channel"),
        ({"lazy": True}, "--only and --lazy"),
        ({"canary_share": 0.0}, "--only and --canary-share"),
    ],
)
def test_what_does_not_go_together_is_refused(
    deployment: quorum.Deployment, asked: list[str], more: dict[str, Any], message: str
) -> None:
    before = Path("old.jsonl").read_bytes()
    with pytest.raises(OutputError, match=message):
        quorum.extract(deployment, "in.csv", options(**more))
    assert (asked, Path("old.jsonl").read_bytes()) == ([], before)


@pytest.mark.parametrize(
    ("listings", "message"),
    [
        ("p0,text 0\np0,text 0\n", "'p0' is listed twice"),
        ("p0,text 0\np1,other\n", "1 products have another text in old.jsonl .* the first: 'p1'"),
        ("q,text 0\n", "has none of these listings"),
    ],
)
def test_listings_that_cannot_be_joined_are_refused_before_anything_is_asked(
    deployment: quorum.Deployment, asked: list[str], listings: str, message: str
) -> None:
    Path("in.csv").write_text("product,title\n" + listings, "utf-8")
    with pytest.raises(OutputError, match=message):
        quorum.extract(deployment, "in.csv", options())
    assert asked == []


def test_the_fields_of_a_table_are_those_of_its_attributes(
    deployment: quorum.Deployment, asked: list[str]
) -> None:
    pair = AttributeSpec(fields=["query", "shop"])
    spec = deployment.model_copy(update={"attributes": {"size": pair, "color": pair}})
    Path("in.csv").write_text("product,query,shop\np0,red,Acme\n", "utf-8")
    rows = [
        {"product": "p0", "title": "query: red\nshop: Acme", "attribute": "size", "votes": {"alpha": "1"}}
    ]
    write_jsonl(Path("old.jsonl"), rows)
    assert quorum.extract(spec, "in.csv", options()).answered == 1
    assert asked == ["query: red\nshop: Acme"]

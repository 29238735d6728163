# SPDX-License-Identifier: Apache-2.0
"""`quorum canary report` on recorded votes, without a server; with one in ``tests/e2e/test_canary.py``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.deployment import set_state

from quorum.decision.scores import LEVELS
from quorum.decision.weights import Parameters, Weights
from quorum.deployment import load_deployment
from quorum.learning.learn import learn
from quorum.operations.servers import store_of
from quorum.repository.history import Event, History, timestamp
from quorum.repository.render import render
from quorum.votes import read_votes, write_votes
from quorum_client import Answer, AsyncClient, Extraction, Overloaded, Status, Vote

MEMBERS = ("alpha", "beta", "gamma")


def try_version_2(folder: Path, weights: Weights | None = None) -> None:
    """The canary channel answers with version 2 in the repository that commands look at."""
    spec = load_deployment(folder / "deploy.yaml")
    store = store_of(spec)
    render(spec, store.path)
    heavy = Weights("majority", MEMBERS, Parameters((9.0, 1.0, 1.0)), catalogue=spec.catalogue().hashes)
    store.add_version(2, weights or heavy)
    set_state(spec, [1, 2], canary=2, repository=store.path)


def row(number: int, channel: str, version: int, **more: Any) -> dict[str, Any]:
    votes = dict.fromkeys(MEMBERS, "x") | {"alpha": "y"}
    origin = {"channel": channel, "weights_version": version, "latency_ms": 10.0 + number}
    return {"product": f"p{number}", "attribute": "brand", "votes": votes, "gold": ["x"], **origin, **more}


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "recorded.jsonl"
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_what_an_earlier_canary_did_is_not_held_against_this_one(folder: Path, run: Any, ending: str) -> None:
    try_version_2(folder)
    rows = [row(i, "quorum", 1) for i in range(4)] + [row(4, "quorum_canary", 2)]
    rows += [row(5, "quorum", 1, fallback_from="quorum_canary")]
    # Another version was tried beside another one; since then the canary was off.
    rows += [row(6, "quorum", 7, fallback_from="quorum_canary"), row(7, "quorum_canary", 8)]
    rows += [row(8, "quorum_canary", 1)]
    path = write(folder, rows)
    if ending != "jsonl":
        pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
        write_votes(read_votes(path), path := folder / f"recorded.{ending}")
    code, out, err = run("canary", "report", path, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["products"], found["asked"], found["failed"]) == (9, 2, 1)
    assert found["latency"]["products"] == 1
    assert found["latency"]["canary_p50"] == 14.0


def test_a_text_may_hold_any_separator_of_lines(folder: Path, run: Any) -> None:
    try_version_2(folder)
    code, _, err = run("canary", "report", write(folder, [row(0, "quorum", 1, title="a\u2028b\x85c")]))
    assert code == 0, err


def test_a_version_that_stable_left_behind_is_no_canary(folder: Path, run: Any) -> None:
    try_version_2(folder)
    votes = write(folder, [row(0, "quorum", 1)])
    store = store_of(spec := load_deployment(folder / "deploy.yaml"))
    History(store.path).append(Event(timestamp(), "promote", 2, 1, "", who="me"))
    set_state(spec, [1, 2], stable=2, repository=store.path)
    code, _, err = run("canary", "report", votes)
    assert code == 1
    assert "there is no canary; begin one with `quorum canary N --share 5%`" in err
    set_state(spec, [1, 2], stable=2, share=0.1, repository=store.path)
    assert run("canary", "report", votes)[0] == 0


def test_a_fleet_is_looked_at_where_its_first_server_reads(folder: Path, run: Any) -> None:
    data = yaml.safe_load((folder / "deploy.yaml").read_text("utf-8"))
    data["fleet"] = [{"grpc": "east:8001", "repository": "east"}, {"grpc": "west:8001", "repository": "west"}]
    (folder / "deploy.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    render(load_deployment(folder / "deploy.yaml"))
    try_version_2(folder)
    code, out, err = run("canary", "report", write(folder, [row(0, "quorum", 1)]), "--json")
    assert code == 0, err
    assert json.loads(out)["canary_version"] == 2
    code, out, err = run("diff", "1", "2", "--json")
    assert code == 0, err
    assert json.loads(out)["weights"]["default"]["new"] == [1.0, 1 / 9, 1 / 9]


def labelled_rows(products: range) -> list[dict[str, Any]]:
    """Rows in which gamma alone is right, wherever the members differ."""
    rows = []
    for number in products:
        votes = {"alpha": "y", "beta": "y", "gamma": "x"} if number % 2 else dict.fromkeys(MEMBERS, "x")
        rows.append({"product": f"p{number}", "attribute": "brand", "votes": votes, "gold": ["x"]})
    return rows


def test_labels_that_taught_a_version_do_not_promote_it(folder: Path, run: Any) -> None:
    lesson = write(folder, labelled_rows(range(400)))
    try_version_2(folder, learn(read_votes(lesson).of_members(MEMBERS), "loglinear"))
    code, out, err = run("canary", "report", lesson, "--auto-promote", "--auto-rollback", "--json")
    assert code == 3, err
    found = json.loads(out)
    assert found["trained_on"] is True
    assert found["done"] is None
    assert found["accuracy"]["delta"]["low"] > 0
    code, out, err = run("canary", "report", lesson)
    assert code == 0, err
    assert "keep watching: the weights were learned from these labels; give others" in " ".join(err.split())
    assert "learned" in out
    others = write(folder, labelled_rows(range(400, 800)))
    code, out, err = run("canary", "report", others, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["trained_on"], found["verdict"]["action"]) == (False, "promote")


def test_votes_are_judged_as_served_not_as_spelled(folder: Path, run: Any) -> None:
    rows = labelled_rows(range(400))
    for r in rows:
        r["votes"]["gamma"] = "X"
    lesson = write(folder, rows)
    spec = load_deployment(folder / "deploy.yaml")
    try_version_2(
        folder,
        Weights("majority", MEMBERS, Parameters((1.0, 1.0, 9.0)), catalogue=spec.catalogue().hashes),
    )
    code, out, err = run("canary", "report", lesson, "--json")
    assert code == 0, err
    found = json.loads(out)["accuracy"]
    assert (found["stable"], found["canary"]) == (0.5, 1.0)
    assert "400 votes count as deploy.yaml spells values, not as recorded" in err


@pytest.mark.parametrize(
    ("canary_version", "full", "words"),
    [
        (2, {("shoe 3", "quorum_canary")}, []),
        (7, set(), ["version 7 answered where 2 is pinned", "run it again"]),
        (2, {(f"shoe {i}", "quorum") for i in range(8)}, ["no listing was answered by both channels: full"]),
    ],
)
def test_a_replay_asks_both_channels(
    folder: Path,
    run: Any,
    monkeypatch: pytest.MonkeyPatch,
    canary_version: int,
    full: set[tuple[str, str]],
    words: list[str],
) -> None:
    async def extract(_: AsyncClient, text: str, *__: Any, channel: str, **___: Any) -> Extraction:
        if (text, channel) in full:
            raise Overloaded("full")
        value, version = ("x", canary_version) if channel == "quorum_canary" else ("y", 1)
        answer = Answer("brand", value, 0.5, (Vote("alpha", value, Status.ANSWERED),))
        return Extraction("id", (answer,), version, 0.01 * version)

    monkeypatch.setattr(AsyncClient, "extract", extract)
    try_version_2(folder)
    rows = [{"title": f"shoe {i}", "gold": {"brand": ["x"]}} for i in range(8)]
    path = write(folder, rows)
    code, out, err = run("canary", "report", "--replay", path, "-a", "brand", "--json")
    assert code == bool(words), err
    assert all(word in " ".join(err.split()) for word in words), err
    if words:
        return
    found = json.loads(out)
    assert (found["products"], found["asked"], found["failed"]) == (7, 8, 1)
    assert found["accuracy"]["delta"]["value"] == 1.0
    assert found["latency"]["ratio"]["value"] == pytest.approx(2.0)
    assert found["top"][0]["better"] == 7
    assert "7 of 7 cells differently" in " ".join(err.split())


def test_a_replay_leaves_out_what_products_of_a_category_do_not_have(
    folder: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def extract(_: AsyncClient, text: str, *__: Any, channel: str, **___: Any) -> Extraction:
        version = 2 if channel == "quorum_canary" else 1
        answer = Answer("brand", "n/a", 1.0, (Vote("alpha", "n/a", Status.ANSWERED),))
        return Extraction("id", (answer,), version, 0.01)

    monkeypatch.setattr(AsyncClient, "extract", extract)
    try_version_2(folder)
    spec = folder / "deploy.yaml"
    deployment = yaml.safe_load(spec.read_text("utf-8"))
    deployment["attributes"] = {"brand": {"only": ["shoes"]}}
    spec.write_text(yaml.safe_dump(deployment), "utf-8")
    rows = [{"title": f"shoe {i}", "category": "shoes" if i < 3 else "hats"} for i in range(8)]
    code, out, err = run("canary", "report", "--replay", write(folder, rows), "-a", "brand", "--json")
    assert code == 0, err
    assert json.loads(out)["products"] == 3
    others = write(folder, rows[3:])
    code, _, err = run("canary", "report", "--replay", others, "-a", "brand", "--json")
    assert code == 1
    assert "no product is of a category that has one of these attributes" in " ".join(err.split())


def test_members_that_are_less_sure_the_second_time_answered_the_same(
    folder: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def extract(_: AsyncClient, text: str, *__: Any, channel: str, **___: Any) -> Extraction:
        version, score = (2, -0.25) if channel == "quorum_canary" else (1, -0.5)
        answer = Answer("brand", "x", 0.5, (Vote("alpha", "x", Status.ANSWERED, score),))
        return Extraction("id", (answer,), version, 0.01)

    monkeypatch.setattr(AsyncClient, "extract", extract)
    try_version_2(folder)
    path = write(folder, [{"title": f"shoe {i}", "gold": {"brand": ["x"]}} for i in range(8)])
    code, _, err = run("canary", "report", "--replay", path, "-a", "brand", "--json")
    assert code == 0, err
    assert "differently" not in err


def test_votes_without_the_scores_that_a_version_weighs_by_are_noted(folder: Path, run: Any) -> None:
    """Alpha stands alone for "y", and wins only with a score."""
    levels = ((9.0,) * LEVELS, (0.0,) * LEVELS, (0.0,) * LEVELS)
    known = load_deployment(folder / "deploy.yaml").catalogue().hashes
    by_score = Weights("em", MEMBERS, Parameters((1.0,) * 3, scores=levels), catalogue=known)
    try_version_2(folder, by_score)
    scored = [row(i, "quorum", 1, scores={"alpha": -0.1, "beta": -1.0, "gamma": -1.0}) for i in range(3)]
    bare = [row(i, "quorum", 1) for i in range(3, 9)]
    for rows, changed, noted in ((scored, 1.0, ""), (bare, 0.0, "100%"), (scored + bare, 1 / 3, "67%")):
        code, out, err = run("canary", "report", write(folder, rows), "--json")
        assert code == 0, err
        assert json.loads(out)["changed"]["value"] == pytest.approx(changed)
        words = f"votes of alpha ({noted}) have no score, by which version 2 weighs them: served, it decides"
        assert (words in " ".join(err.split())) == bool(noted)
        assert ("score" in err) == bool(noted)


def test_votes_of_a_member_whose_scores_are_off_are_decided_as_when_served(folder: Path, run: Any) -> None:
    levels = ((9.0,) * LEVELS, (9.0,) * LEVELS, (0.0,) * LEVELS)
    known = load_deployment(folder / "deploy.yaml").catalogue().hashes
    by_score = Weights("em", MEMBERS, Parameters((1.0,) * 3, scores=levels), catalogue=known)
    try_version_2(folder, by_score)
    data = yaml.safe_load((folder / "deploy.yaml").read_text("utf-8"))
    data["members"][0]["options"]["scores"] = False
    (folder / "deploy.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    scored = [row(i, "quorum", 1, scores={"alpha": -0.1, "beta": -1.0, "gamma": -1.0}) for i in range(3)]
    bare = [row(i, "quorum", 1, scores={"beta": -1.0}) for i in range(3)]
    for rows, end in (
        (bare, "as in these votes: served, it decides the same"),
        (scored, "unlike these votes: served, it decides otherwise"),
    ):
        code, _, err = run("canary", "report", write(folder, rows), "--json")
        assert code == 0, err
        assert err.splitlines() == [
            f"this deployment gives no scores of alpha, by which version 2 weighs votes, {end}; learn again"
        ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--retriever", "items.jsonl", "--top", "3"), "--top is for `canary report` without --retriever"),
        (("--retriever", "items.jsonl", "--auto-promote"), "--auto-promote is for `canary report` without"),
        (("votes.jsonl", "-k", "10"), "-k is for `canary report` with --retriever; leave it out"),
        (("votes.jsonl", "--judged", "j.jsonl"), "--judged is for `canary report` with --retriever"),
        (
            ("--retriever",),
            "--retriever needs a file of items: `quorum canary report items.jsonl --retriever`",
        ),
    ],
)
def test_an_option_of_the_other_report_is_refused_by_name(
    folder: Path, run: Any, given: tuple[str, ...], words: str
) -> None:
    code, _, err = run("canary", "report", *given)
    assert code == 1
    assert words in err
    assert "VOTES|ITEMS" in run("canary", "report", "--help")[1]

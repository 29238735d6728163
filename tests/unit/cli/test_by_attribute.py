# SPDX-License-Identifier: Apache-2.0
"""Commands that judge weights name an attribute that became worse in their first line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.deployment import set_state

from quorum.decision.kept import keep_attributes
from quorum.decision.weights import Parameters, Weights, dump, equal_weights
from quorum.deployment import load_deployment
from quorum.operations.servers import store_of
from quorum.repository.render import render
from quorum.rollout.change import Change
from quorum.votes import Cell, build_table, read_votes, write_votes

MEMBERS = ("alpha", "beta", "gamma")


@pytest.fixture
def votes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Votes by which alpha alone is right on "color" and wrong on "brand"; version 2 trusts alpha."""
    monkeypatch.setenv("COLUMNS", "80")
    cells = [
        Cell(f"p{p}", "shoes" if p % 2 else "shirts", "", name, values, ("x",))
        for p in range(60)
        for name, values in (
            ("color", ("x", "y", "y")),
            ("brand", ("y", "x", "x")),
            ("size", ("x", "x", "x")),
        )
    ]
    write_votes(build_table(MEMBERS, cells), folder / "votes.jsonl")
    spec = load_deployment(folder / "deploy.yaml")
    store = store_of(spec)
    render(spec, store.path)
    trusting = Weights("em", MEMBERS, Parameters((9.0, 1.0, 1.0)), catalogue=spec.catalogue().hashes)
    store.add_version(2, trusting)
    store.add_version(3, keep_attributes(trusting, store.weights(1), ["brand"]))
    set_state(spec, [1, 2, 3], canary=2, repository=store.path)
    dump(trusting, folder / "trusting.json")
    dump(equal_weights(MEMBERS), folder / "equal.json")
    return folder


def fits(text: str) -> bool:
    return all(len(line) <= 80 for line in text.splitlines()[1:]) and "…" not in text


def test_canary_report(votes: Path, run: Any) -> None:
    code, out, err = run("canary", "report", "votes.jsonl", "--auto-promote", "--auto-rollback")
    assert code == 3
    assert out.splitlines()[0].startswith("version 2 is worse than stable on brand (-100.0 points [")
    assert fits(out)
    assert "keep watching: " in err
    code, out, _ = run("canary", "report", "votes.jsonl", "--json")
    assert json.loads(out)["compared"]["stable"]["worse"] == ["brand"]


def test_a_canary_report_as_a_page(votes: Path, run: Any) -> None:
    table = read_votes(votes / "votes.jsonl")
    cells = [replace(c, product="<b>p</b>" if c.product == "p0" else c.product) for c in table.cells]
    write_votes(build_table(MEMBERS, cells), votes / "named.jsonl")
    code, _, err = run("canary", "report", "named.jsonl", "--report", "canary.html")
    assert code == 0, err
    assert f"report: {votes / 'canary.html'}" in err
    page = (votes / "canary.html").read_text("utf-8")
    assert "<b>Keep watching</b>" in page
    assert "Version 2 is worse than stable on brand (-100.0 points [" in page
    assert page.count("<svg") == 1
    assert "&lt;b&gt;p&lt;/b&gt;" in page
    assert "<b>p</b>" not in page
    code, _, err = run("canary", "report", "votes.jsonl", "--report", "nowhere/canary.html")
    assert (code, "nowhere/canary.html: No such file" in err) == (1, True)
    code, _, err = run("canary", "report", "items.jsonl", "--retriever", "--report", "canary.html")
    assert (code, "--report is for `canary report` without --retriever" in err) == (1, True)


def test_evaluate_weights_against_what_is_live(votes: Path, run: Any) -> None:
    spec = load_deployment(votes / "deploy.yaml")
    set_state(spec, [1, 2, 3], stable=2, repository=store_of(spec).path)
    code, out, err = run("evaluate", "votes.jsonl", "--weights", "equal.json")
    assert code == 0, err
    assert "; worse than version 2 on color (-100.0 points [" in out.splitlines()[0]
    assert fits(out)
    code, out, _ = run("evaluate", "votes.jsonl", "--weights", "equal.json", "--json")
    assert list(json.loads(out)["compared"]) == ["majority", "version 2"]
    (votes / "deploy.yaml").write_text("members: 7\n", encoding="utf-8")
    code, out, err = run("evaluate", "votes.jsonl", "--weights", "equal.json", "--json")
    assert (code, list(json.loads(out)["compared"])) == (0, ["majority"])
    assert "nothing is compared with what is live" in err


def test_weights_are_judged_as_they_decide_with_the_catalogue_of_now(votes: Path, run: Any) -> None:
    """Version 4 trusts alpha on "color" alone, which the catalogue changed since: it decides as majority."""
    spec = load_deployment(votes / "deploy.yaml")
    store, now = store_of(spec), spec.catalogue().hashes
    trusting = {"color": Parameters((9.0, 1.0, 1.0))}
    stale = Weights("em", MEMBERS, Parameters((1.0,) * 3), trusting, catalogue=now | {"color": "sha256:old"})
    store.add_version(4, stale)
    set_state(spec, [1, 4], stable=4, repository=store.path)
    dump(stale, votes / "stale.json")
    _, out, _ = run("evaluate", "votes.jsonl", "--weights", "stale.json", "--json")
    assert json.loads(out)["by_attribute"]["color"]["weights"] == 0.0
    _, out, _ = run("evaluate", "votes.jsonl", "--weights", "trusting.json", "--json")
    assert list(json.loads(out)["compared"]) == ["majority"]
    _, out, _ = run("learn", "votes.jsonl", "--method", "iwmv", "--json")
    assert "version 4" not in json.loads(out)["judged"]["compared"]


def test_learn_and_evaluate(votes: Path, run: Any) -> None:
    code, out, err = run("learn", "votes.jsonl", "--method", "iwmv")
    assert code == 0, err
    assert "color" in out
    assert fits(out)
    assert "right, %: 66.7 [66.7, 66.7], majority 66.7" in err
    code, out, err = run("learn", "votes.jsonl", "--method", "iwmv", "--no-judge")
    assert (code, out) == (0, "")
    spec = load_deployment(votes / "deploy.yaml")
    set_state(spec, [1, 2, 3], stable=2, repository=store_of(spec).path)
    code, out, err = run("evaluate", "votes.jsonl", "--methods", "em")
    assert code == 0, err
    assert out.splitlines()[0].startswith("majority is worse than version 2 on color (-100.0 points")
    assert fits(out)
    assert ("right at" in out, "asked" in out) == (True, True)


def test_a_bias_for_not_given_is_named_and_bounded(votes: Path, run: Any) -> None:
    code, _, err = run("learn", "votes.jsonl", "--method", "majority", "--na-bias", "-1", "--no-judge")
    assert code == 0, err
    assert "gamma 1.00; n/a counts -1 mean weights besides its votes\n" in err
    for wrong in ("nan", "inf", "-11", "1e300"):
        code, _, err = run("learn", "votes.jsonl", "--method", "em", "--na-bias", wrong)
        assert code == 1
        assert "a number from -10 to 10 is needed" in err
    for command in ("learn", "evaluate"):
        code, _, err = run(command, "votes.jsonl", "--gold-labels", "-5")
        assert code == 2
        assert "should be greater than or equal to " in " ".join(err.replace("│", " ").split())


def test_a_warning_names_methods_as_the_table_does(votes: Path, run: Any) -> None:
    table = read_votes(votes / "votes.jsonl")
    cells = [
        replace(c, values=("n/a", "x", None), gold=("n/a",)) if c.attribute == "size" else c
        for c in table.cells
    ]
    write_votes(build_table(MEMBERS, cells), votes / "blank.jsonl")
    code, out, err = run("evaluate", "blank.jsonl", "--methods", "majority", "--report", "report.html")
    assert code == 0, err
    assert "majority, n/a bias is worse than majority on size" in out.splitlines()[0]
    assert "_with_na_bias" not in (votes / "report.html").read_text("utf-8")


def test_diff_names_what_was_kept(votes: Path, run: Any) -> None:
    code, _, err = run("diff", "2", "3")
    assert (code, err) == (0, "3 keeps an earlier version's weights for brand\n")
    code, out, _ = run("diff", "3", "2", "--json")
    assert json.loads(out)["kept"] == {"old": ["brand"], "new": []}


def test_the_guard_needs_held_out_votes(folder: Path, run: Any) -> None:
    data = yaml.safe_load((folder / "deploy.yaml").read_text("utf-8"))
    for rules, words in (
        ({"guard": "per_attribute"}, "name a votes table in rollout.heldout"),
        ({"guard": "each", "heldout": "votes.jsonl"}, "overall"),
    ):
        (folder / "deploy.yaml").write_text(yaml.safe_dump(data | {"rollout": rules}), encoding="utf-8")
        code, _, err = run("validate")
        assert code == 1
        assert "rollout.guard" in err
        assert words in " ".join(err.split())


def test_a_rehearsal_does_not_say_that_versions_were_unloaded(
    votes: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for planned, said in ((True, "would unload to make room"), (False, "unloaded to make room")):
        change = Change("publish", 4, planned=planned, retired=(2, 3))
        monkeypatch.setattr("quorum.publish", lambda *_, change=change, **__: change, raising=False)
        _, _, err = run("publish", "equal.json", *(["--dry-run"] if planned else []))
        assert err.startswith(f"{said} (rollout.keep_versions): 2, 3")

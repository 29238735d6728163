# SPDX-License-Identifier: Apache-2.0
"""Weights that are worse on held-out votes: refused, kept off an attribute, or published for a reason."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from support.deployment import write_deployment
from support.loading_server import Server, weights

from quorum.decision.kept import kept_attributes
from quorum.decision.weights import Parameters, Weights
from quorum.deployment import load_deployment
from quorum.operations.rollout import publish
from quorum.repository.render import render
from quorum.repository.store import Store
from quorum.rollout.channels import Rollout, RolloutError
from quorum.rollout.fleet import Fleet


def test_weights_that_are_worse_on_held_out_votes_need_a_reason(tmp_path: Path) -> None:
    deploy = write_deployment(tmp_path, {"alpha": {}, "beta": {}, "gamma": {}})
    cells = [
        {
            "product": f"p{i}",
            "category": "",
            "title": f"product {i}",
            "attribute": "color",
            "gold": ["red"],
            "votes": {"alpha": "red", "beta": "blue" if i % 3 else "red", "gamma": "green"},
        }
        for i in range(60)
    ]
    (tmp_path / "heldout.jsonl").write_text("\n".join(map(json.dumps, cells)) + "\n", encoding="utf-8")
    deploy.write_text(deploy.read_text("utf-8") + "\nrollout: {heldout: heldout.jsonl}\n", encoding="utf-8")
    spec = load_deployment(deploy)
    render(spec)
    server = Server(Store(spec.repository_path))
    rollout = Rollout(spec, server, server.probe)
    good = weights(spec)
    bad = Weights("majority", good.members, Parameters((0.1, 5.0, 0.1)), catalogue=good.catalogue)
    done = rollout.publish(good)
    assert done.comparison is not None
    assert done.comparison.new == 1.0
    rollout.promote(done.version)
    with pytest.raises(RolloutError, match=r"33\.3% right against 100\.0%.*--force"):
        rollout.publish(bad)
    assert rollout.store.state().versions == (1, 2)
    assert rollout.publish(bad, "a rehearsal").version == 3
    assert list(rollout.history.events())[-1].reason == "a rehearsal"


def test_held_out_votes_are_judged_as_served_not_as_spelled(tmp_path: Path) -> None:
    attributes = {"color": {"values": ["red", "blue"]}}
    deploy = write_deployment(tmp_path, {"alpha": {}, "beta": {}, "gamma": {}}, attributes=attributes)
    votes = {"alpha": "Red", "beta": "blue", "gamma": "mauve"}
    rows = [{"product": f"p{i}", "attribute": "color", "gold": ["red"], "votes": votes} for i in range(40)]
    (tmp_path / "heldout.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    deploy.write_text(deploy.read_text("utf-8") + "\nrollout: {heldout: heldout.jsonl}\n", encoding="utf-8")
    spec = load_deployment(deploy)
    render(spec)
    server = Server(Store(spec.repository_path))
    rollout = Rollout(spec, server, server.probe)
    # "mauve" is outside the closed set: gamma abstains, whatever it weighs.
    new = replace(weights(spec), default=Parameters((2.0, 1.0, 9.0)))
    good = rollout.kind.compare(new)
    assert good is not None
    assert (good.new, good.remark) == (1.0, "80 votes count as deploy.yaml spells values, not as recorded")
    with pytest.raises(RolloutError, match=r"0\.0% right.*; 80 votes count as deploy\.yaml"):
        rollout.publish(replace(new, default=Parameters((0.1, 1.0, 9.0))))


@pytest.fixture
def guarded(tmp_path: Path) -> Rollout:
    """With held-out votes by which alpha is always right on "color", and beta on "brand"."""
    deploy = write_deployment(tmp_path, {"alpha": {}, "beta": {}, "gamma": {}})
    rows = [
        {"product": f"p{i}", "category": "", "title": "", "attribute": name, "gold": ["x"], "votes": votes}
        for i in range(40)
        for name, votes in (
            ("color", {"alpha": "x", "beta": "y", "gamma": "x"}),
            ("brand", {"alpha": "y" if i % 2 else "x", "beta": "x", "gamma": "x"}),
            ("size", {"alpha": "x", "beta": "y", "gamma": "z"}),
        )
    ]
    (tmp_path / "heldout.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    rules = "rollout: {heldout: heldout.jsonl, guard: per_attribute}"
    deploy.write_text(deploy.read_text("utf-8") + f"\n{rules}\n", encoding="utf-8")
    spec = load_deployment(deploy)
    render(spec)
    server = Server(Store(spec.repository_path))
    return Rollout(spec, server, server.probe)


def test_weights_that_are_worse_on_one_attribute_are_refused_or_keep_it(guarded: Rollout) -> None:
    spec = guarded._spec
    # Alpha decides alone: better on "size" than majority's first member is not, worse on "brand".
    alone = replace(weights(spec, 9.0), attributes={"size": Parameters((1.0, 1.0, 1.0))})
    with pytest.raises(RolloutError) as refused:
        guarded.publish(alone)
    said = str(refused.value)
    assert said.startswith("not published: worse than the running version on brand (-50.0 points [")
    assert "rollout.guard is per_attribute" in said
    assert "`--keep brand`" in said
    assert guarded.store.state().versions == (1,)
    kept = guarded.publish(alone, keep=("brand",))
    assert (kept.version, kept.kept, kept.not_calibrated) == (2, ("brand",), ())
    assert kept.comparison is not None
    assert kept.comparison.warning == ""
    stored = guarded.store.weights(2)
    assert stored.parameters("brand").weights == (1.0, 1.0, 1.0)
    assert stored.parameters("color") == alone.default
    assert kept_attributes(stored) == ("brand",)
    assert guarded.publish(alone, keep=("brand",)).already
    forced = guarded.publish(alone, "a rehearsal")
    assert forced.comparison is not None
    assert forced.comparison.warning.startswith("worse than the running version on brand")
    with pytest.raises(RolloutError, match=r"no attribute 'brnd', 'colr' to keep; there are: brand, color"):
        guarded.publish(alone, keep=("brnd", "brand", "colr"))


def test_what_the_catalogue_changed_is_told_of_the_attributes_that_are_not_kept(
    guarded: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quorum.operations.rollout.connect", lambda *_: nullcontext(Fleet({"": guarded})))
    spec, hashes = guarded._spec, guarded._spec.catalogue().hashes
    older = replace(weights(spec), catalogue=hashes | {"color": "sha256:c", "size": "sha256:s"})
    assert publish(spec, older, force="a rehearsal").catalogue.changed == ("color", "size")
    change = publish(spec, older, keep=["color", "color"], force="a rehearsal")
    assert change.kept == ("color",)
    assert change.catalogue.changed == ("size",)
    assert guarded.store.weights(change.version).catalogue_change(hashes) == change.catalogue


def test_without_that_guard_an_attribute_that_is_worse_is_only_named(guarded: Rollout) -> None:
    rules = guarded._spec.rollout.model_copy(update={"guard": "overall", "margin": 0.2})
    spec = guarded._spec.model_copy(update={"rollout": rules})
    found = Rollout(spec, guarded._server, guarded._probe).publish(weights(spec, 9.0)).comparison
    assert found is not None
    assert found.warning.startswith("worse than the running version on brand (-50.0 points [")
    assert "majority" not in found.compared

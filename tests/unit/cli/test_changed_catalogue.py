# SPDX-License-Identifier: Apache-2.0
"""Weights outlive a change of the catalogue; every command names the attributes that it concerns."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from support.deployment import set_state, table, write_jsonl

from quorum.decision.weights import load
from quorum.deployment import load_deployment
from quorum.operations import rollout
from quorum.operations import status as operation
from quorum.operations.servers import store_of
from quorum.rollout.change import Change
from quorum.server.probe import Pulse

MEMBERS = ("alpha", "beta", "gamma")
SENTENCE = (
    "color changed and width is new in the catalogue since these weights were learned: they use the weights "
    "of all attributes"
)


@pytest.fixture
def learned(folder: Path, run: Any) -> Path:
    """Weights learned with one catalogue, and a deployment that has another by now."""
    code, _, err = run("learn", "votes.jsonl", "--method", "em")
    assert code == 0, err
    assert "no votes on" not in err
    data = yaml.safe_load((folder / "deploy.yaml").read_text("utf-8"))
    data["attributes"] |= {"color": {"values": ["red", "green", "blue"]}, "width": {"normaliser": "measure"}}
    (folder / "deploy.yaml").write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return folder / "weights.json"


@pytest.fixture
def served(learned: Path, folder: Path) -> Path:
    spec = load_deployment(folder / "deploy.yaml")
    store = store_of(spec)
    store.path.mkdir(parents=True, exist_ok=True)
    store.add_version(2, load(learned))
    set_state(spec, [2], stable=2, canary=2, repository=store.path)
    return learned


def test_render_takes_the_change_and_names_it(served: Path, run: Any) -> None:
    code, _, err = run("render")
    assert code == 0, err
    assert f"version 2: {SENTENCE}" in err
    found = json.loads(run("render", "--json")[1])
    assert found["catalogue"] == {"2": {"added": ["width"], "changed": ["color"], "removed": []}}
    assert found["misfits"] == {}


def test_status_names_it(served: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = SimpleNamespace(index=list, runs=lambda *_: True)
    monkeypatch.setattr(operation, "Control", lambda *_, **__: nullcontext(server))
    monkeypatch.setattr(operation, "take_pulse", lambda *_: Pulse(True, True, 2, 0.0))
    assert f"version 2: {SENTENCE}" in run("status")[2]
    found = json.loads(run("status", "--json")[1])
    assert found["versions"]["2"]["catalogue"]["changed"] == ["color"]
    (store_of(load_deployment(Path("deploy.yaml"))).path / "quorum_gate" / "catalogue.json").unlink()
    differs = json.loads(run("status", "--json")[1])["differs"]
    assert "deploy.yaml (quorum_gate/catalogue.json): `quorum apply` changes the running server" in differs
    run("render")
    assert "differs" not in json.loads(run("status", "--json")[1])
    server.runs = lambda *_: False
    assert "was rendered anew since the server started (quorum): restart the server" in run("status")[2]


def test_render_writes_nothing_where_weights_are_for_other_members(
    served: Path, folder: Path, run: Any
) -> None:
    assert run("render")[0] == 0
    data = yaml.safe_load((folder / "deploy.yaml").read_text("utf-8"))
    data["members"] = [*data["members"][:2], data["members"][0] | {"name": "delta"}]
    (folder / "deploy.yaml").write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    gamma = store_of(load_deployment(folder / "deploy.yaml")).path / "gamma"
    code, _, err = run("render")
    assert code == 1
    assert "version 2 cannot be served: weights are for the members" in err
    assert "nothing was written: take the change back" in err
    assert "leave out gamma: `quorum votes drop VOTES gamma --out FEWER`; then ask delta: `quorum ext" in err
    assert gamma.is_dir()
    assert not gamma.with_name("delta").exists()
    code, _, err = run("render", "--reset-weights")
    assert code == 0, err
    assert not gamma.exists()


def test_publish_names_it(learned: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server: the change is a stand-in, the comparison of the catalogues is not."""
    change = SimpleNamespace(publish=lambda *_: Change("publish", 2), keeping=lambda weights, _: weights)
    monkeypatch.setattr(rollout, "connect", lambda *_: nullcontext(change))
    assert SENTENCE in run("publish", learned)[2]
    assert json.loads(run("publish", learned, "--json")[1])["catalogue"]["added"] == ["width"]


def test_learn_names_attributes_without_votes(learned: Path, run: Any) -> None:
    code, _, err = run("learn", "votes.jsonl", "--out", "again.json")
    assert code == 0
    assert "no votes on width: the weights of all attributes decide" in err


def test_an_update_forgets_what_changed_and_keeps_the_rest(learned: Path, folder: Path, run: Any) -> None:
    before = json.loads((folder / "weights.state.json").read_text("utf-8"))
    day = [row | {"product": f"new-{row['product']}"} for row in table(MEMBERS) if row["attribute"] == "size"]
    write_jsonl(folder / "day.jsonl", day)
    code, _, err = run("learn", "day.jsonl", "--update", learned)
    assert code == 0, err
    assert "changed in the catalogue since, so that earlier votes do not count: color" in err
    assert "not judged by attribute here: `quorum evaluate day.jsonl` does" in err
    after = json.loads((folder / "weights.state.json").read_text("utf-8"))
    assert {attribute for _, attribute in before["groups"]} == {"brand", "color", "size"}
    assert {attribute for _, attribute in after["groups"]} == {"brand", "size"}
    learned_again = json.loads(learned.read_text("utf-8"))
    assert "color" not in learned_again["attributes"]
    assert set(learned_again["catalogue"]) == {"", "brand", "color", "size", "width"}


def test_an_update_that_broke_off_is_finished_before_the_catalogue_counts(
    learned: Path, folder: Path, run: Any
) -> None:
    first = learned.read_bytes()
    for name in ("one", "two"):
        day = [row | {"product": f"{name}-{row['product']}"} for row in table(MEMBERS)]
        write_jsonl(folder / f"{name}.jsonl", day)
    assert run("learn", "one.jsonl", "--update", learned)[0] == 0
    done, state = learned.read_bytes(), (folder / "weights.state.json").read_bytes()
    learned.write_bytes(first)
    code, _, err = run("learn", "two.jsonl", "--update", learned)
    assert (code, "weights.json: is not of its state" in err) == (1, True), err
    code, _, err = run("learn", "one.jsonl", "--update", learned)
    assert (code, "they count once" in err) == (0, True), err
    assert json.loads(learned.read_text("utf-8"))["content_hash"] == json.loads(done)["content_hash"]
    assert (folder / "weights.state.json").read_bytes() == state

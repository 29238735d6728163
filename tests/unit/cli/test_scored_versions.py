# SPDX-License-Identifier: Apache-2.0
"""`quorum diff`, `render`, `status` and `publish` say which versions weigh votes by their scores."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from support.deployment import set_state

from quorum.decision.scores import LEVELS, LOG_ODDS
from quorum.decision.weights import Parameters, Weights
from quorum.deployment import load_deployment
from quorum.operations import rollout
from quorum.operations import status as operation
from quorum.operations.servers import store_of
from quorum.repository.render import render
from quorum.rollout.change import Change
from quorum.server.probe import Pulse

MEMBERS = ("alpha", "beta", "gamma")
# Of alpha, a vote weighs 1 more per unit of log odds.
OFFSETS = (LOG_ODDS, (0.0,) * LEVELS, (0.0,) * LEVELS)


@pytest.fixture
def versions(folder: Path) -> Path:
    """Version 1 of equal weights, 2 that weighs alpha by its scores, 3 that does not."""
    spec = load_deployment(folder / "deploy.yaml")
    store, known = store_of(spec), spec.catalogue().hashes
    render(spec, store.path)
    weights = (4.0, 2.0, 1.0)
    store.add_version(2, Weights("em", MEMBERS, Parameters(weights, scores=OFFSETS), catalogue=known))
    store.add_version(3, Weights("em", MEMBERS, Parameters(weights), catalogue=known))
    set_state(spec, [1, 2, 3], canary=2, repository=store.path)
    return folder


def test_diff_says_who_weighs_votes_by_their_scores_and_how_much(versions: Path, run: Any) -> None:
    code, out, err = run("diff", "2", "3")
    assert code == 0, err
    assert "2 weighs votes by their scores, 3 does not" in err
    # Log odds of .99 and .3 are of the levels 5 and -1; 6 more, where the heaviest member weighs 4.
    assert "1.50 -> 0.00" in out
    assert "a sure vote (p=0.99) weighs more than an unsure one (p=0.3) by" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    found = json.loads(run("diff", "2", "3", "--json")[1])
    assert found["use_scores"] == {"old": True, "new": False}
    assert found["sure_over_unsure"]["default"] == {"old": [1.5, 0.0, 0.0], "new": [0.0, 0.0, 0.0]}
    assert "2 and 2 weigh votes by their scores" in run("diff", "2", "2")[2]


def test_diff_of_versions_without_scores_speaks_of_none(versions: Path, run: Any) -> None:
    code, out, err = run("diff", "1", "3")
    assert (code, err) == (0, "")
    assert "sure" not in out
    assert json.loads(run("diff", "1", "3", "--json")[1])["use_scores"] == {"old": False, "new": False}


def turn_off(folder: Path) -> None:
    data = yaml.safe_load((folder / "deploy.yaml").read_text("utf-8"))
    data["members"][0]["options"]["scores"] = False
    (folder / "deploy.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")


LOST = "version 2 weighs alpha by its scores, which this deployment does not give: learn again"


def test_render_names_scores_that_live_weights_miss(versions: Path, run: Any) -> None:
    assert "learn again" not in run("render")[2]
    turn_off(versions)
    code, _, err = run("render", "--check")
    assert code == 1
    assert LOST in err
    code, out, err = run("render", "--json")
    assert code == 0, err
    assert json.loads(out)["unscored"] == {"2": ["alpha"]}


def test_status_says_which_versions_use_scores(
    versions: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = SimpleNamespace(index=list, runs=lambda *_: True)
    monkeypatch.setattr(operation, "Control", lambda *_, **__: nullcontext(server))
    monkeypatch.setattr(operation, "take_pulse", lambda *_: Pulse(True, True, 1, 0.0))
    code, out, err = run("status")
    assert (code, err) == (0, "")
    assert out.count("by scores") == 1
    turn_off(versions)
    code, out, err = run("status")
    assert LOST in err
    assert max(map(len, out.splitlines())) <= 80
    found = json.loads(run("status", "--json")[1])["versions"]
    assert {number: v["uses_scores"] for number, v in found.items()} == {"1": False, "2": True, "3": False}
    assert found["2"]["unscored"] == ["alpha"]


def test_publish_names_scores_that_new_weights_miss(
    versions: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a server: the change is a stand-in, the check is not."""
    change = SimpleNamespace(publish=lambda *_: Change("publish", 2), keeping=lambda weights, _: weights)
    monkeypatch.setattr(rollout, "connect", lambda *_: nullcontext(change))
    path = store_of(load_deployment(versions / "deploy.yaml")).weights_path(2)
    assert "learn again" not in run("publish", path)[2]
    turn_off(versions)
    code, _, err = run("publish", path)
    assert (code, LOST in err) == (0, True)
    assert json.loads(run("publish", path, "--json")[1])["unscored"] == ["alpha"]

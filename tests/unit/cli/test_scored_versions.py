# SPDX-License-Identifier: Apache-2.0
"""`quorum diff`, `render`, `status` and `publish` say which versions weigh votes by their scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.deployment import set_state

from quorum.decision.scores import LEVELS, LOG_ODDS
from quorum.decision.weights import Parameters, Weights
from quorum.deployment import load_deployment
from quorum.operations.servers import store_of
from quorum.repository.render import render

MEMBERS = ("alpha", "beta", "gamma")
# Of alpha, a vote weighs 1 more per unit of log odds.
OFFSETS = (LOG_ODDS, (0.0,) * LEVELS, (0.0,) * LEVELS)


@pytest.fixture
def versions(folder: Path) -> Path:
    """Version 1 of equal weights, 2 that weighs alpha by its scores, 3 that does not."""
    spec = load_deployment(folder / "deploy.yaml")
    store, known = store_of(spec), spec.catalogue().hash
    render(spec, store.path)
    weights = (4.0, 2.0, 1.0)
    store.add_version(2, Weights("em", MEMBERS, Parameters(weights, scores=OFFSETS), catalogue_hash=known))
    store.add_version(3, Weights("em", MEMBERS, Parameters(weights), catalogue_hash=known))
    set_state(spec, [1, 2, 3], canary=2, repository=store.path)
    return folder


def test_diff_says_who_weighs_votes_by_their_scores_and_how_much(versions: Path, run: Any) -> None:
    code, out, err = run("diff", "2", "3")
    assert code == 0, err
    assert "2 weighs votes by their scores, 3 does not" in err
    # Log odds of .99 and .3 are of the levels 5 and -1; 6 more, where the heaviest member weighs 4.
    assert "1.50 -> 0.00" in out
    assert "a sure vote (p=0.99) weighs so much more than an unsure one (p=0.3)" in " ".join(out.split())
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

# SPDX-License-Identifier: Apache-2.0
"""Files of every release are read by this one, and files of a later one are refused with the way out.

``tests/upgrades/RELEASE`` holds what that release wrote: a deployment with every section it had, its model
repository after a publish, a canary and a promotion, votes in all formats, and the statistic of learning.
They are never written again; a release that changes a format adds its own folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import quorum
from quorum.decision.weights import WeightsError, dumps, loads
from quorum.learning.online import OnlineError, load_state
from quorum.repository.history import History
from quorum.repository.state import RepositoryError, read_state
from quorum.repository.store import Store
from quorum.server.prepare import prepare
from quorum.votes import read_votes
from quorum_contract import CANARY, STABLE
from quorum_contract.errors import QuorumError

UPGRADES = Path(__file__).parents[1] / "upgrades"
RELEASES = sorted(folder.name for folder in UPGRADES.iterdir())
MEMBERS = ["alpha", "beta", "gamma"]
CELLS = {"votes.jsonl": (72, 48), "votes.parquet": (72, 48), "votes-unversioned.jsonl": (24, 15)}
"""Votes table -> its cells, and how many of them have gold."""
SCORED = {"votes.jsonl", "votes.parquet"}


@pytest.fixture(params=RELEASES)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the files of a release."""
    return shutil.copytree(UPGRADES / request.param, tmp_path / "deployment")


def test_a_deployment_says_what_it_said(old: Path) -> None:
    spec = quorum.load_deployment(old / "deploy.yaml")
    assert spec.schema_version == 1
    assert spec.member_names == MEMBERS
    assert spec.members[0].budget is not None
    assert (spec.members[0].budget.per_day, spec.currency) == (5.0, "EUR")
    assert (spec.vote.min_members, spec.vote.grace_ms, spec.rollout.keep_versions) == (2, 500, 4)
    assert [warning.partition(",")[0] for warning in quorum.validate(spec)] == ["no price of beta"]


def test_versions_and_pins_stay(old: Path) -> None:
    spec = quorum.load_deployment(old / "deploy.yaml")
    notes: list[str] = []
    prepare(spec, spec.repository_path, notes.append)
    assert notes == []
    before = {n: Store(spec.repository_path).weights(n).content_hash for n in (1, 2)}
    report = quorum.render(spec)
    assert report.written
    assert not report.difference.misfits
    assert quorum.render(spec, check=True).difference.is_clean
    state = read_state(spec.repository_path / "state.json")
    assert (state.versions, state.pins[STABLE], state.pins[CANARY], state.canary_share) == ((1, 2), 2, 2, 0.1)
    assert {n: Store(spec.repository_path).weights(n).content_hash for n in (1, 2)} == before
    events = [*History(spec.repository_path).events()]
    assert [event.action for event in events] == ["render", "publish", "canary", "promote"]
    assert events[1].weights_hash == before[2]


@pytest.mark.parametrize("name", CELLS)
def test_votes_are_the_same_in_every_format(old: Path, name: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
    table = read_votes(old / name)
    assert list(table.members) == MEMBERS
    assert (len(table.cells), sum(bool(cell.gold) for cell in table.cells)) == CELLS[name]
    assert all(bool(cell.scores) == (name in SCORED) for cell in table.cells)
    assert table.cells[0].values == ("brand-0", "brand-0", "brand-0")


def test_weights_are_written_again_as_they_were(old: Path) -> None:
    for path in sorted(old.rglob("weights.json")):
        text = path.read_text("utf-8")
        assert dumps(loads(text)) == text


def test_learning_goes_on_from_its_statistic(old: Path) -> None:
    state = load_state(old / "weights.state.json")
    assert state.statistic.members == tuple(MEMBERS)
    assert len(state.days) == 1


def raised(path: Path, key: str) -> None:
    """Give a file the next version of its schema."""
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(content | {key: content[key] + 1}), encoding="utf-8")


def later_deployment(old: Path) -> None:
    path = old / "deploy.yaml"
    path.write_text("schema_version: 2\nnews: {of: later}\n" + path.read_text("utf-8"), encoding="utf-8")
    quorum.load_deployment(path)


def later_weights(old: Path) -> None:
    raised(old / "weights.json", "schema_version")
    loads((old / "weights.json").read_text("utf-8"), "weights.json")


def later_state(old: Path) -> None:
    raised(old / "model_repository" / "state.json", "schema_version")
    read_state(old / "model_repository" / "state.json")


def later_votes(old: Path) -> None:
    path = old / "votes.jsonl"
    path.write_text(path.read_text("utf-8").replace('"schema_version": 2', '"schema_version": 3'), "utf-8")
    read_votes(path)


def later_statistic(old: Path) -> None:
    raised(old / "weights.state.json", "schema_version")
    load_state(old / "weights.state.json")


@pytest.mark.parametrize(
    ("read", "error"),
    [
        (later_deployment, quorum.QuorumError),
        (later_weights, WeightsError),
        (later_state, RepositoryError),
        (later_votes, QuorumError),
        (later_statistic, OnlineError),
    ],
)
def test_a_file_of_a_later_release_is_refused_by_its_version_alone(
    old: Path, read: Callable[[Path], None], error: type[Exception]
) -> None:
    with pytest.raises(
        error, match=r"(?s)schema.version.*(upgrade quorum|use the release that wrote it)"
    ) as refused:
        read(old)
    assert "news" not in str(refused.value)

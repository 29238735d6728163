# SPDX-License-Identifier: Apache-2.0
"""Versions of a retriever are published, pinned, retired and put back as those of weights are."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.deployment import write_deployment
from support.retriever_rollout import made, of_retriever
from support.retrievers import Encoder
from support.serving_files import Files, files_in

from quorum.decision.weights import Parameters, Weights
from quorum.deployment import Deployment, load_deployment
from quorum.evaluation.retriever_guard import Encoders
from quorum.repository.history import History
from quorum.repository.render import difference, render
from quorum.repository.store import Store
from quorum.retrieval.encode import TextEncoder
from quorum.retrieval.judged import JudgedPair
from quorum.retrieval.judged_files import write_judged
from quorum.rollout.channels import Rollout, RolloutError
from quorum.rollout.fleet import Fleet, SharedRepository
from quorum.rollout.offline import quarantine, recover_offline, reset_weights
from quorum.rollout.retriever import RetrieverKind
from quorum.runtimes.engine_names import retriever_encoder
from quorum.server.control import ControlError
from quorum_contract import CANARY, RECOMMEND, RECOMMEND_CANARY, RETRIEVER, STABLE


def test_the_way_of_a_retriever(spec: Deployment, server: Files, rollout: Rollout, tmp_path: Path) -> None:
    votes = dict(server.answers)
    first = rollout.publish(made(tmp_path / "1"))
    assert (first.version, first.first, first.model) == (1, True, RETRIEVER)
    assert server.answers == votes | {RECOMMEND: 1, RECOMMEND_CANARY: 1}
    assert rollout.publish(made(tmp_path / "again")).already
    assert rollout.publish(made(tmp_path / "2", 2)).version == 2
    assert server.answers == votes | {RECOMMEND: 1, RECOMMEND_CANARY: 1}
    assert rollout.canary(2, 0.05).before == 1
    state = rollout.store.state()
    assert state.retriever is not None
    assert (state.retriever.canary_share, state.canary_share) == (0.05, 0.0)
    assert server.answers == votes | {RECOMMEND: 1, RECOMMEND_CANARY: 2}
    assert rollout.promote(2).before == 1
    assert rollout.end_canary().version == 2
    assert rollout.rollback().version == 1
    with pytest.raises(RolloutError, match=r"2 cannot be retired: quorum_recommend_canary.*off --retr"):
        rollout.retire(2)
    rollout.end_canary()
    assert rollout.retire(2).model == RETRIEVER
    assert (server.versions[RETRIEVER], rollout.store.versions_on_disk(RETRIEVER)) == ([1], [1, 2])
    with pytest.raises(
        RolloutError, match=r"version 2 is not loaded.*`quorum publish .*/quorum_retriever/2`"
    ):
        rollout.promote(2)
    assert rollout.publish(rollout.kind.source(2)).version == 3
    assert difference(spec).is_clean
    events = [(e.action, e.version) for e in rollout.history.events() if e.model == RETRIEVER]
    assert events == [
        ("publish", 1), ("publish", 2), ("canary", 2), ("promote", 2), ("canary", 2), ("rollback", 1),
        ("canary", 1), ("retire", 2), ("publish", 3),
    ]  # fmt: skip


def test_versions_of_weights_and_of_a_retriever_are_not_taken_for_each_other(
    spec: Deployment, server: Files, rollout: Rollout, tmp_path: Path
) -> None:
    votes = Rollout(spec, server, server.probe)
    for heavy in (2.0, 3.0):
        votes.publish(Weights("majority", ("alpha", "beta"), Parameters((heavy, 1.0))))
    votes.promote(2)
    with pytest.raises(RolloutError, match="no version of the retriever was published"):
        rollout.promote(2)
    rollout.publish(made(tmp_path / "1"))
    with pytest.raises(RolloutError, match="there is no version 2 to promote; published are: 1"):
        rollout.promote(2)
    with pytest.raises(
        RolloutError, match="'quorum_recommend' answers with version 1, which was not promoted"
    ):
        rollout.rollback()
    rollout.promote(rollout.publish(made(tmp_path / "2", 2)).version)
    assert votes.rollback().version == 1
    assert server.answers == {STABLE: 1, CANARY: 1, RECOMMEND: 2, RECOMMEND_CANARY: 1}
    assert reset_weights(spec) == 4
    assert Store(spec.repository_path).state().retriever == rollout.kind.served()


@pytest.mark.parametrize("where", [RETRIEVER, RECOMMEND, RECOMMEND_CANARY, f"probe {RECOMMEND}"])
def test_a_first_version_that_fails_leaves_nothing(
    spec: Deployment, server: Files, rollout: Rollout, tmp_path: Path, where: str
) -> None:
    before, votes = files_in(spec.repository_path), dict(server.answers)
    server.failures = {where: [ControlError("no memory left")]}
    with pytest.raises(RolloutError, match=r"undone: no memory left; serving as before: no version of the"):
        rollout.publish(made(tmp_path / "1"))
    assert files_in(spec.repository_path) == before
    assert (server.answers, RETRIEVER in server.versions) == (votes, False)
    assert rollout.publish(made(tmp_path / "1")).version == 1


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_answering(
    spec: Deployment, server: Files, rollout: Rollout, tmp_path: Path
) -> None:
    rollout.publish(made(tmp_path / "1"))
    before, answers = files_in(spec.repository_path), dict(server.answers)
    server.failures = {RETRIEVER: [ControlError("no memory left")]}
    with pytest.raises(RolloutError, match="undone: no memory left; serving as before: quorum_recommend 1"):
        rollout.publish(made(tmp_path / "2", 2))
    assert (files_in(spec.repository_path), server.answers) == (before, answers)


def test_a_dry_run_changes_no_byte(spec: Deployment, server: Files, rollout: Rollout, tmp_path: Path) -> None:
    dry = of_retriever(spec, server, dry_run=True)
    before = files_in(spec.repository_path)
    assert dry.publish(made(tmp_path / "1")).planned
    assert files_in(spec.repository_path) == before
    for seed in (1, 2):
        rollout.publish(made(tmp_path / f"of {seed}", seed))
    before = files_in(spec.repository_path)
    for planned in (dry.canary(2, 0.5), dry.promote(2), dry.retire(2), dry.publish(made(tmp_path / "3", 3))):
        assert planned.planned
    assert files_in(spec.repository_path) == before


def test_only_so_many_versions_stay_loaded(spec: Deployment, server: Files, tmp_path: Path) -> None:
    text = spec.path.read_text("utf-8") + "\nrollout: {keep_versions: 3}\n"
    spec.path.write_text(text, encoding="utf-8")
    rollout = of_retriever(load_deployment(spec.path), server)
    retired = [rollout.publish(made(tmp_path / f"{seed}", seed)).retired for seed in range(1, 6)]
    assert retired == [(), (), (), (2,), (3,)]
    assert server.versions[RETRIEVER] == [1, 4, 5]


def break_version(spec: Deployment, version: int) -> None:
    (spec.repository_path / RETRIEVER / str(version) / "vectors.npy").write_bytes(b"damaged")


def test_a_damaged_version_is_left_out_of_a_start(
    spec: Deployment, server: Files, rollout: Rollout, tmp_path: Path
) -> None:
    for seed in (1, 2, 3):
        rollout.publish(made(tmp_path / f"{seed}", seed))
    rollout.promote(2)
    break_version(spec, 2)
    break_version(spec, 3)
    with pytest.raises(RolloutError, match="version 3 is damaged on disk"):
        rollout.promote(3)
    found = quarantine(spec)
    assert [(one.version, one.moved, one.model) for one in found] == [
        (2, {RECOMMEND: 1}, RETRIEVER),
        (3, {}, RETRIEVER),
    ]
    assert "version 2 of the retriever is damaged and left out" in str(found[0])
    started = Files(Store(spec.repository_path))
    assert (started.versions[RETRIEVER], started.answers[RECOMMEND]) == ([1], 1)
    assert difference(spec).is_clean
    assert of_retriever(spec, started).publish(made(tmp_path / "new", 9)).version == 4


def test_without_a_sound_version_the_votes_start_alone(
    spec: Deployment, server: Files, rollout: Rollout, tmp_path: Path
) -> None:
    for seed in (1, 2):
        rollout.publish(made(tmp_path / f"{seed}", seed))
    for version in (1, 2):
        break_version(spec, version)
    (found,) = quarantine(spec)
    assert (found.version, found.ended) == (1, True)
    assert "nothing is recommended until a retriever is published" in str(found)
    started = Files(Store(spec.repository_path))
    assert started.answers == {STABLE: 1, CANARY: 1}
    assert difference(spec).is_clean
    again = of_retriever(spec, started).publish(made(tmp_path / "new", 9))
    assert (again.version, again.first) == (3, True)


def test_what_a_killed_process_left_of_the_first_version_is_taken_back(
    spec: Deployment, server: Files, rollout: Rollout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_in(spec.repository_path)
    monkeypatch.setattr(rollout._journal, "undo", lambda *_: None)
    server.failures = {RECOMMEND: [KeyboardInterrupt()]}
    with pytest.raises(KeyboardInterrupt):
        rollout.publish(made(tmp_path / "1"))
    assert files_in(spec.repository_path) != before
    # The next command, of whatever kind, with the server that runs.
    assert Rollout(spec, server, server.probe).promote(1).already
    assert files_in(spec.repository_path) == before
    assert RETRIEVER not in server.versions
    last = History(spec.repository_path).last()
    assert last is not None
    assert (last.model, last.outcome) == (RETRIEVER, "undone: the process that made it was interrupted")
    assert recover_offline(spec) is None


def test_a_fleet_publishes_on_each_server_and_one_that_fails_stops_the_rest(tmp_path: Path) -> None:
    rollouts, servers = {}, []
    for name in ("east", "west"):
        spec = load_deployment(write_deployment(tmp_path / name, {"alpha": {}, "beta": {}}))
        render(spec)
        servers.append(Files(Store(spec.repository_path)))
        shared = SharedRepository({name: (servers[-1], servers[-1].probe)})
        rollouts[name] = Rollout(spec, shared, shared.probe, None, False, RetrieverKind)
    fleet = Fleet(rollouts)
    servers[1].failures = {RECOMMEND: [ControlError("full")]}
    with pytest.raises(RolloutError, match=r"stopped at west.*Done on east"):
        fleet.publish(made(tmp_path / "1"))
    assert [RECOMMEND in server.answers for server in servers] == [True, False]
    fleet.publish(made(tmp_path / "1"))
    fleet.promote(fleet.publish(made(tmp_path / "2", 2)).version)
    assert [server.answers[RECOMMEND] for server in servers] == [2, 2]
    assert fleet.rollback().version == 1


def test_a_server_that_keeps_an_undone_first_version_is_named(
    spec: Deployment, server: Files, tmp_path: Path
) -> None:
    other = Files(Store(spec.repository_path))
    shared = SharedRepository({"east": (server, server.probe), "west": (other, other.probe)})
    rollout = Rollout(spec, shared, shared.probe, None, False, RetrieverKind)
    other.failures = {RECOMMEND_CANARY: [ControlError("full")]}
    server.failures = {f"unload {RECOMMEND}": [ControlError("no answer in time")]}
    with pytest.raises(RolloutError) as failed:
        rollout.publish(made(tmp_path / "1"))
    assert "undone: west: full" in str(failed.value)
    assert "the server does not answer so: east: no answer in time" in str(failed.value)
    # One that does not answer keeps no other from unloading.
    assert (RECOMMEND in server.answers, RECOMMEND in other.answers) == (True, False)


def test_the_network_of_a_version_that_is_retired_is_unloaded(
    spec: Deployment, server: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = spec.path.read_text("utf-8") + "\nretriever: {triton: true}\n"
    spec.path.write_text(text, encoding="utf-8")
    rollout, unloaded = of_retriever(load_deployment(spec.path), server), []
    for seed in (1, 2):
        rollout.publish(made(tmp_path / f"{seed}", seed))
    monkeypatch.setattr(server, "unload", unloaded.append)
    rollout.retire(2)
    assert unloaded == [retriever_encoder(2)]
    assert rollout.store.read_config(retriever_encoder(2)) is None


@pytest.fixture
def guarded(spec: Deployment, server: Files, tmp_path: Path) -> Rollout:
    """With judgements that agree with the encoder of seed 0."""
    encoder, rng = Encoder(0), np.random.default_rng(0)
    items = {
        f"i{n}": f"{a} {b}"
        for n, (a, b) in enumerate(
            itertools.product(("red", "blue", "slim", "trail"), ("shoes", "jacket", "case", "wallet", "desk"))
        )
    }
    asked = ["red shoes", "blue jacket", "slim case", "trail boots", "leather wallet for men", "desk lamp"]
    pairs = []
    cosines = encoder.items([*items.values()]) @ encoder.keyphrases(asked).T
    for row, (item, text) in enumerate(items.items()):
        for column, keyphrase in enumerate(asked):
            label = float(np.clip(0.5 + cosines[row, column] / 2 + 0.02 * rng.standard_normal(), 0, 1))
            value = "relevant" if label >= 0.5 else "irrelevant"
            pairs.append(
                JudgedPair(
                    item=item, text=text, keyphrase=keyphrase, label=label, value=value, confidence=1.0
                )
            )
    write_judged(spec.root / "heldout.jsonl", pairs, {})
    text = spec.path.read_text("utf-8") + "\nretriever: {heldout: heldout.jsonl}\n"
    spec.path.write_text(text, encoding="utf-8")
    return of_retriever(load_deployment(spec.path), server)


def test_a_version_that_agrees_less_or_finds_less_needs_a_reason(guarded: Rollout, tmp_path: Path) -> None:
    assert guarded.publish(made(tmp_path / "1")).comparison is None
    with pytest.raises(RolloutError) as refused:
        guarded.publish(made(tmp_path / "2", 2))
    said = str(refused.value)
    assert "agreement with the judgements falls by" in said
    assert "more than retriever.max_less_agreement 0.02" in said
    assert "--force it with a reason" in said
    assert guarded.store.versions_on_disk(RETRIEVER) == [1]
    forced = guarded.publish(made(tmp_path / "2", 2), "a rehearsal")
    assert forced.comparison is not None
    assert forced.comparison.warning in said
    assert list(guarded.history.events())[-1].reason == "a rehearsal"
    guarded.promote(2)
    better = guarded.publish(made(tmp_path / "3"))
    # The files are those of version 1, which is loaded.
    assert better.already
    found = better.comparison
    assert found.agreement > 0.9 > found.agreement_running
    assert found.agreement_change.low > 0
    assert found.warning == ""
    assert found.recall >= found.recall_running


def test_held_out_pairs_of_another_question_judge_nothing(
    guarded: Rollout, server: Files, tmp_path: Path
) -> None:
    guarded.publish(made(tmp_path / "1"))
    spec = guarded.kind.spec
    pair = JudgedPair(item="a", text="red", keyphrase="k", label=1, value="1", confidence=1)
    write_judged(spec.root / "heldout.jsonl", [pair], {"question": {"hash": "sha256:1"}})
    default = '\ndefault: {question: "Is {name} it?", values: ["no", "yes"]}\n'
    spec.path.write_text(spec.path.read_text("utf-8") + default, "utf-8")
    changed = load_deployment(spec.path)
    render(changed)
    other = of_retriever(changed, server)
    with pytest.raises(RolloutError, match=r"heldout\.jsonl: judged by another question"):
        other.publish(made(tmp_path / "2", 2))
    assert other.store.versions_on_disk(RETRIEVER) == [1]


def test_the_gate_encodes_as_serving_does(
    guarded: Rollout, server: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded.publish(made(tmp_path / "1"))
    path = guarded.kind.spec.path
    changed = "retriever: {heldout: heldout.jsonl, engine: onnxruntime, precision: int8, max_batch: 8}"
    path.write_text(path.read_text("utf-8").replace("retriever: {heldout: heldout.jsonl}", changed), "utf-8")
    seen: list[Encoders] = []

    def compare(*arguments: Any) -> None:
        seen.append(arguments[4](arguments[0]))
        raise ValueError("seen")

    monkeypatch.setattr("quorum.rollout.retriever.compare_retrievers", compare)
    asked: list[tuple[str, int]] = []
    usual = TextEncoder.__init__

    def noted(
        self: TextEncoder, folder: Path, engine: Any, precision: Any = "auto", *more: Any, **named: Any
    ) -> None:
        asked.append((precision, named.get("max_batch", 32)))
        usual(self, folder, engine, "auto", **named)

    monkeypatch.setattr(TextEncoder, "__init__", noted)
    monkeypatch.setattr("quorum.rollout.retriever.check_vectors", lambda *_: None)
    served = load_deployment(path)
    render(served)
    with pytest.raises(RolloutError, match="seen"):
        of_retriever(served, server).publish(made(tmp_path / "2", 2))
    assert asked == [("int8", 8), ("auto", 32)]
    assert seen[0].items is not seen[0].keyphrases

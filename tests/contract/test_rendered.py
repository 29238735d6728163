# SPDX-License-Identifier: Apache-2.0
"""What is rendered keeps the contract: names, types, shapes, and every wire of the ensemble connected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.deployment import write_deployment
from tritonclient.grpc import model_config_pb2 as pb

import quorum_contract as contract
from quorum.deployment import load_deployment
from quorum.repository.configs import parse_config
from quorum.repository.render import difference, render

ROOT = Path(__file__).parents[2]
MEMBERS = ("alpha", "be.ta-2", "gamma_3")
# Public API, so it stands here once more: a change of the contract has to be meant.
ASKED = {
    "TEXT": (pb.TYPE_STRING, [1]),
    "CATEGORY": (pb.TYPE_STRING, [1]),
    "ATTRIBUTES": (pb.TYPE_STRING, [-1]),
}
ANSWERED = {
    "VALUES": (pb.TYPE_STRING, [-1]),
    "CONFIDENCE": (pb.TYPE_FP32, [-1]),
    "MEMBERS": (pb.TYPE_STRING, [-1]),
    "MEMBER_VALUES": (pb.TYPE_STRING, [-1, -1]),
    "MEMBER_STATUS": (pb.TYPE_INT32, [-1, -1]),
    "MEMBER_SCORES": (pb.TYPE_FP32, [-1, -1]),
    "DECISION_STATUS": (pb.TYPE_INT32, [-1]),
    "WEIGHTS_VERSION": (pb.TYPE_INT64, [1]),
    "COST": (pb.TYPE_FP32, [1]),
    "MEMBER_USAGE": (pb.TYPE_FP32, [-1, 6]),
    "CANARY_SHARE": (pb.TYPE_FP64, [1]),
}


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    spec = load_deployment(
        write_deployment(tmp_path_factory.mktemp("rendered"), {name: {} for name in MEMBERS})
    )
    render(spec)
    paths = sorted(spec.repository_path.glob("*/config.pbtxt"))
    return {path.parent.name: parse_config(path.read_text("utf-8")) for path in paths}


@pytest.fixture(scope="module")
def lazy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    rows = [["be.ta-2"], ["alpha"], ["gamma_3"]]
    folder = tmp_path_factory.mktemp("lazy")
    spec = load_deployment(write_deployment(folder, {name: {} for name in MEMBERS}, lazy={"rows": rows}))
    render(spec)
    paths = sorted(spec.repository_path.glob("*/config.pbtxt"))
    return {path.parent.name: parse_config(path.read_text("utf-8")) for path in paths}


def declared(tensors: Any) -> dict[str, tuple[int, list[int]]]:
    return {t.name: (t.data_type, list(t.dims)) for t in tensors}


@pytest.mark.parametrize("channel", contract.CHANNELS)
def test_channels_are_what_the_contract_says(configs: dict[str, Any], channel: str) -> None:
    config = configs[channel]
    assert declared(config.input) == ASKED
    assert declared(config.output) == ANSWERED
    assert (config.platform, config.max_batch_size) == ("ensemble", 0)


def test_exactly_the_models_of_the_deployment_are_rendered(configs: dict[str, Any]) -> None:
    assert sorted(configs) == sorted([*MEMBERS, contract.GATE, contract.VOTE, *contract.CHANNELS])
    assert all(config.name == name for name, config in configs.items())
    assert configs[contract.VOTE].version_policy.specific.versions == [1]


def test_nothing_is_handed_in_batches(configs: dict[str, Any]) -> None:
    """At the gate one malformed request would fail its neighbours; behind it batches end badly (ADR 54)."""
    assert not any(
        config.max_batch_size or config.HasField("dynamic_batching") for config in configs.values()
    )


@pytest.mark.parametrize("channel", contract.CHANNELS)
def test_every_wire_of_the_ensemble_is_connected(configs: dict[str, Any], channel: str) -> None:
    config = configs[channel]
    carried = dict(declared(config.input))
    used: set[str] = set()
    for step in config.ensemble_scheduling.step:
        model = configs[step.model_name]
        inputs, outputs = declared(model.input), declared(model.output)
        assert set(step.input_map) == set(inputs), step.model_name
        # The gate gives the question under another name to canary channels.
        spare = {"QUESTION", "CANARY_QUESTION"} - {"CANARY_QUESTION" if "canary" in channel else "QUESTION"}
        assert set(step.output_map) == set(outputs) - spare, step.model_name
        for name, wire in step.input_map.items():
            assert wire in carried, f"{step.model_name}.{name} is fed by {wire}, which nothing made before"
            assert carried[wire] == inputs[name], (step.model_name, name)
            used.add(wire)
        for name, wire in step.output_map.items():
            assert wire not in carried, f"{wire} is made twice"
            carried[wire] = outputs[name]
    final = declared(config.output)
    assert all(carried[name] == kind for name, kind in final.items())
    idle = set(carried) - used - set(final)
    # Each gated tensor but these is read by somebody; nothing is made for nobody.
    assert idle == set(), idle
    assert [s.model_name for s in config.ensemble_scheduling.step] == [contract.GATE, *MEMBERS, contract.VOTE]


@pytest.mark.parametrize("channel", [*contract.CHANNELS, *contract.LAZY_CHANNELS])
def test_rows_are_wired_through_the_vote(lazy: dict[str, Any], channel: str) -> None:
    """Only optional inputs are left out, and each tensor is made before it is read."""
    config = lazy[channel]
    assert declared(config.input) == ASKED
    assert declared(config.output) == ANSWERED
    carried = dict(declared(config.input))
    for step in config.ensemble_scheduling.step:
        model = lazy[step.model_name]
        inputs, outputs = declared(model.input), declared(model.output)
        needed = {tensor.name for tensor in model.input if not tensor.optional}
        assert needed <= set(step.input_map) <= set(inputs), step.model_name
        assert all(carried[wire] == inputs[name] for name, wire in step.input_map.items())
        made = {wire: outputs[name] for name, wire in step.output_map.items()}
        assert not made.keys() & carried.keys()
        carried |= made
    last = config.ensemble_scheduling.step[-1]
    assert set(last.output_map) == set(ANSWERED) - {"CANARY_SHARE"}
    assert {f"{name}_VOTES" for name in MEMBERS} <= set(last.input_map)


def test_each_row_of_a_lazy_channel_reads_what_the_step_before_it_left_open(lazy: dict[str, Any]) -> None:
    gate, first, settled, second, again, third, _ = lazy[contract.LAZY].ensemble_scheduling.step
    assert [step.model_name for step in (first, second, third)] == ["be.ta-2", "alpha", "gamma_3"]
    assert settled.model_name == again.model_name == contract.VOTE
    assert "OPEN_3" in gate.output_map.values()
    assert [dict(step.output_map) for step in (settled, again)] == [
        {"OPEN_2": "OPEN_2"},
        {"OPEN_1": "OPEN_1"},
    ]
    assert [step.input_map["OPEN"] for step in (first, settled, second, again, third)] == [
        "OPEN_3", "OPEN_3", "OPEN_2", "OPEN_2", "OPEN_1"
    ]  # fmt: skip
    assert set(settled.input_map) == {"QUESTION", "OPEN", "be.ta-2_VOTES"}


def test_raw_input_meets_only_the_gate(configs: dict[str, Any]) -> None:
    """Malformed tensors that reach several steps at once can take a server down."""
    for channel in contract.CHANNELS:
        raw = {tensor.name for tensor in configs[channel].input}
        readers = {
            step.model_name
            for step in configs[channel].ensemble_scheduling.step
            if raw & set(step.input_map.values())
        }
        assert readers == {contract.GATE}
    assert not configs[contract.GATE].HasField("dynamic_batching")
    assert [g.count for g in configs[contract.GATE].instance_group] == [1]


def test_the_repository_that_is_checked_in_is_what_deploy_yaml_says() -> None:
    if not (ROOT / "model_repository").is_dir():
        pytest.fail("model_repository/ is missing; run `quorum render`")
    found = difference(load_deployment(ROOT / "deploy.yaml"))
    assert found.is_clean, f"run `quorum render`: {sorted(found.write)} {found.remove} {found.misfits}"

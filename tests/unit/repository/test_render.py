# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.deployment import write_deployment

from quorum.decision.weights import equal_weights
from quorum.deployment import Deployment, load_deployment
from quorum.repository.configs import HEADER, channel_config, parse_config, print_config, vote_config
from quorum.repository.render import plan_render, render, reset_weights
from quorum.repository.store import Store
from quorum_contract import CHANNELS, VOTE


@pytest.fixture
def spec(tmp_path: Path) -> Deployment:
    return load_deployment(write_deployment(tmp_path, {"alpha": {}, "beta": {}}))


def changed(spec: Deployment, **parts: Any) -> Deployment:
    data = yaml.safe_load(spec.path.read_text("utf-8")) | parts
    spec.path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return load_deployment(spec.path)


def tree(spec: Deployment) -> dict[str, bytes]:
    root = spec.repository_path
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_rendering_twice_changes_nothing(spec: Deployment) -> None:
    assert not plan_render(spec).is_clean
    assert tree(spec) == {}
    first = render(spec)
    assert first.write
    files = tree(spec)
    assert plan_render(spec).is_clean
    assert render(spec).is_clean
    assert tree(spec) == files


def test_the_same_spec_renders_the_same_bytes(spec: Deployment, tmp_path: Path) -> None:
    render(spec)
    render(spec, tmp_path / "again")
    assert tree(spec) == {
        str(p.relative_to(tmp_path / "again")): p.read_bytes()
        for p in (tmp_path / "again").rglob("*")
        if p.is_file()
    }
    assert str(tmp_path).encode() not in b"".join(tree(spec).values())


def test_configs_read_back_as_written(spec: Deployment) -> None:
    for config in (vote_config(spec, [3, 1]), channel_config(spec, "quorum", 3)):
        text = print_config(config)
        assert parse_config(text) == config
        assert text.startswith(HEADER)
        assert "max_batch_size: 0" in text
    assert list(vote_config(spec, [3, 1]).version_policy.specific.versions) == [1, 3]


def test_options_reach_the_member_as_they_are(tmp_path: Path) -> None:
    odd = {"recorded_as": 'quotes " and \\ and größe 🧦', "latency_ms": 2.5, "seed": 3}
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {"options": odd, "timeout_s": 2.5}}))
    render(spec)
    config = parse_config((spec.repository_path / "alpha" / "config.pbtxt").read_text("utf-8"))
    settings = json.loads(config.parameters["quorum"].string_value)
    assert settings["allow_direct"] is False
    (member,) = settings["members"]
    assert member["options"].items() >= {"votes": "votes.jsonl", **odd}.items()
    assert (member["name"], member["timeout_s"], member["runtime"]) == ("alpha", 2.5, "replay")


def test_versions_and_pins_are_kept(spec: Deployment) -> None:
    render(spec)
    store = Store(spec.repository_path)
    for version in (2, 3):
        store.add_version(version, equal_weights(spec.member_names, spec.catalogue().hash))
    store.write_config(VOTE, print_config(vote_config(spec, [2, 3])))
    for channel, version in zip(CHANNELS, (2, 3), strict=True):
        store.write_config(channel, print_config(channel_config(spec, channel, version)))
    assert plan_render(spec).is_clean
    spec = changed(spec, gate={"max_in_flight": 9})
    plan = render(spec)
    assert list(plan.write) == ["quorum_gate/config.pbtxt"]
    assert store.pins() == {"quorum": 2, "quorum_canary": 3}
    assert store.versions_listed() == [2, 3]
    assert store.versions_on_disk() == [1, 2, 3]


def teach(spec: Deployment) -> None:
    """Publish a second version, learned for the members and the catalogue as they are."""
    store = Store(spec.repository_path)
    store.add_version(2, equal_weights(spec.member_names, spec.catalogue().hash))
    store.write_config(VOTE, print_config(vote_config(spec, [1, 2])))


def test_a_member_that_is_gone_loses_its_folder(spec: Deployment) -> None:
    render(spec)
    spec = changed(
        spec, members=[{"name": "alpha", "runtime": "replay", "options": {"votes": "votes.jsonl"}}]
    )
    plan = plan_render(spec)
    assert plan.remove == ["beta"]
    assert plan.misfits == {}
    assert (spec.repository_path / "beta").is_dir()
    render(spec)
    assert not (spec.repository_path / "beta").exists()
    assert "beta" not in (spec.repository_path / "quorum" / "config.pbtxt").read_text("utf-8")
    assert Store(spec.repository_path).weights(1).members == ("alpha",)
    assert plan_render(spec).is_clean


def test_weights_that_were_published_misfit_other_members(spec: Deployment) -> None:
    render(spec)
    teach(spec)
    spec = changed(
        spec, members=[{"name": "alpha", "runtime": "replay", "options": {"votes": "votes.jsonl"}}]
    )
    plan = render(spec)
    assert list(plan.misfits) == [1, 2]
    assert "beta" in plan.misfits[2]
    assert Store(spec.repository_path).weights(2).members == ("alpha", "beta")
    assert reset_weights(spec) == 3
    assert plan_render(spec).is_clean
    assert Store(spec.repository_path).pins() == {"quorum": 3, "quorum_canary": 3}


def test_weights_that_were_published_misfit_another_catalogue(spec: Deployment) -> None:
    render(spec)
    teach(spec)
    reworded = changed(spec, attributes={"brand": {"question": "Who made it?"}, "color": {}, "size": {}})
    assert plan_render(reworded).misfits == {}
    closed = changed(spec, attributes={"brand": {"values": ["x"]}, "color": {}, "size": {}})
    assert list(plan_render(closed).misfits) == [2]
    assert "catalogue" in plan_render(closed).misfits[2]


def test_models_of_others_are_left_alone(spec: Deployment) -> None:
    """A repository may hold models that quorum never made: rendering must not delete them."""
    render(spec)
    foreign = spec.repository_path / "resnet" / "config.pbtxt"
    foreign.parent.mkdir()
    foreign.write_text('name: "resnet"\nplatform: "onnxruntime_onnx"\n', encoding="utf-8")
    assert plan_render(spec).remove == []
    render(spec)
    assert foreign.is_file()


def test_damage_is_found_and_mended(spec: Deployment) -> None:
    render(spec)
    for name in ("alpha/config.pbtxt", "quorum_gate/catalogue.json", "quorum/1/.gitkeep"):
        path = spec.repository_path / name
        before = path.read_bytes()
        path.unlink()
        assert list(plan_render(spec).write) == [name]
        render(spec)
        assert path.read_bytes() == before
    (spec.repository_path / "quorum_vote" / "1" / "weights.json").write_text("{", encoding="utf-8")
    assert list(plan_render(spec).misfits) == [1]

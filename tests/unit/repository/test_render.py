# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.deployment import set_state, write_deployment

from quorum.decision.weights import dumps, equal_weights
from quorum.deployment import Deployment, load_deployment
from quorum.repository.configs import HEADER, channel_config, parse_config, print_config, vote_config
from quorum.repository.history import History
from quorum.repository.render import difference, render, rendered_files
from quorum.repository.state import RepositoryError, State
from quorum.repository.store import Store
from quorum.rollout.offline import reset_weights
from quorum_contract import CANARY, GATE, STABLE, VOTE


@pytest.fixture
def spec(tmp_path: Path) -> Deployment:
    return load_deployment(write_deployment(tmp_path, {"alpha": {}, "beta": {}}))


def changed(spec: Deployment, **parts: Any) -> Deployment:
    data = yaml.safe_load(spec.path.read_text("utf-8")) | parts
    spec.path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return load_deployment(spec.path)


def tree(spec: Deployment) -> dict[str, bytes]:
    root = spec.repository_path
    files = (p for p in root.rglob("*") if p.is_file() and p.name not in ("rollout.jsonl", ".rollout.lock"))
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


def test_rendering_twice_changes_nothing(spec: Deployment) -> None:
    assert not difference(spec).is_clean
    assert tree(spec) == {}
    first = render(spec)
    assert first.write
    files = tree(spec)
    assert difference(spec).is_clean
    assert render(spec).is_clean
    assert tree(spec) == files


def test_the_same_spec_renders_the_same_bytes(spec: Deployment, tmp_path: Path) -> None:
    render(spec)
    render(spec, tmp_path / "again")
    assert tree(spec) == {
        str(p.relative_to(tmp_path / "again")): p.read_bytes()
        for p in (tmp_path / "again").rglob("*")
        if p.is_file() and p.name != "rollout.jsonl"
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
        store.add_version(version, equal_weights(spec.member_names, spec.catalogue().hashes))
    set_state(spec, [2, 3], stable=2, canary=3, share=0.25)
    assert difference(spec).is_clean
    spec = changed(spec, gate={"max_in_flight": 9})
    assert list(render(spec).write) == ["quorum_gate/config.pbtxt"]
    assert store.state() == State((2, 3), {"quorum": 2, "quorum_canary": 3}, 0.25)
    assert store.versions_on_disk() == [1, 2, 3]


def teach(spec: Deployment) -> None:
    """Publish a second version, learned for the members and the catalogue as they are."""
    store = Store(spec.repository_path)
    store.add_version(2, equal_weights(spec.member_names, spec.catalogue().hashes))
    set_state(spec, [1, 2])


def test_first_weights_of_an_older_schema_are_written_anew(spec: Deployment) -> None:
    render(spec)
    store, first = Store(spec.repository_path), equal_weights(spec.member_names)
    store.weights_path(1).write_text(dumps(replace(first, schema_version=1)), encoding="utf-8")
    assert list(render(spec).write) == ["quorum_vote/1/weights.json"]
    assert store.weights(1) == first


def test_a_member_that_is_gone_loses_its_folder(spec: Deployment) -> None:
    render(spec)
    spec = changed(
        spec, members=[{"name": "alpha", "runtime": "replay", "options": {"votes": "votes.jsonl"}}]
    )
    found = difference(spec)
    assert found.remove == ["beta"]
    assert found.misfits == {}
    assert (spec.repository_path / "beta").is_dir()
    render(spec)
    assert not (spec.repository_path / "beta").exists()
    assert "beta" not in (spec.repository_path / "quorum" / "config.pbtxt").read_text("utf-8")
    assert Store(spec.repository_path).weights(1).members == ("alpha",)
    assert difference(spec).is_clean


ALPHA_ALONE = [{"name": "alpha", "runtime": "replay", "options": {"votes": "votes.jsonl"}}]


@pytest.mark.parametrize("name", ["notes.txt", "1/model.onnx", "2/.gitkeep"])
def test_files_of_others_in_the_folder_of_a_member_that_is_gone_are_not_removed(
    spec: Deployment, name: str
) -> None:
    render(spec)
    foreign = spec.repository_path / "beta" / name
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("mine", encoding="utf-8")
    before = tree(spec)
    spec = changed(spec, members=ALPHA_ALONE)
    with pytest.raises(RepositoryError, match=rf"'beta' is no longer .*beta/{name}.*move that away"):
        render(spec)
    assert tree(spec) == before
    foreign.rename(spec.root / "mine")
    if name == "2/.gitkeep":
        foreign.parent.rmdir()
    render(spec)
    assert not (spec.repository_path / "beta").exists()


@pytest.mark.parametrize("name", ["beta", "beta/1", "beta/config.pbtxt"])
def test_links_of_a_member_that_is_gone_are_not_followed(spec: Deployment, name: str) -> None:
    render(spec)
    linked = spec.repository_path / name
    elsewhere = linked.rename(spec.root / "elsewhere")
    linked.symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    spec = changed(spec, members=ALPHA_ALONE)
    with pytest.raises(RepositoryError, match=rf"quorum did not write: \S*{name}; move that away"):
        render(spec)
    assert linked.is_symlink()
    assert sorted(elsewhere.rglob("*")) == before


def test_weights_that_were_published_misfit_other_members(spec: Deployment) -> None:
    render(spec)
    teach(spec)
    spec = changed(
        spec, members=[{"name": "alpha", "runtime": "replay", "options": {"votes": "votes.jsonl"}}]
    )
    before = {path: path.stat().st_mtime_ns for path in spec.repository_path.rglob("*")}
    found = render(spec)
    assert list(found.misfits) == [1, 2]
    assert "beta" in found.misfits[2]
    assert found.remove == ["beta"]
    assert {path: path.stat().st_mtime_ns for path in spec.repository_path.rglob("*")} == before
    assert Store(spec.repository_path).weights(2).members == ("alpha", "beta")
    assert reset_weights(spec) == 3
    assert render(spec).remove == ["beta"]
    assert difference(spec).is_clean
    assert Store(spec.repository_path).state().pins == {"quorum": 3, "quorum_canary": 3}


def test_published_weights_fit_a_changed_catalogue_unless_they_know_it_only_as_a_whole(
    spec: Deployment,
) -> None:
    render(spec)
    teach(spec)
    old = replace(equal_weights(spec.member_names), catalogue=spec.catalogue().hash, schema_version=1)
    Store(spec.repository_path).add_version(3, old)
    set_state(spec, [1, 2, 3])
    reworded = changed(spec, attributes={"brand": {"question": "Who made it?"}, "color": {}, "size": {}})
    assert difference(reworded).misfits == {}
    closed = changed(spec, attributes={"brand": {"values": ["x"]}, "color": {}, "size": {}})
    assert list(difference(closed).misfits) == [3]
    assert "catalogue" in difference(closed).misfits[3]


def test_models_of_others_are_left_alone(spec: Deployment) -> None:
    """A repository may hold models that quorum never made: rendering must not delete them."""
    render(spec)
    foreign = spec.repository_path / "resnet" / "config.pbtxt"
    foreign.parent.mkdir()
    foreign.write_bytes('name: "resnet"  # für Fotos\nplatform: "onnxruntime_onnx"\n'.encode("latin-1"))
    assert difference(spec).remove == []
    render(spec)
    assert foreign.is_file()


def test_damage_is_found_and_mended(spec: Deployment) -> None:
    render(spec)
    for name in ("alpha/config.pbtxt", "quorum_gate/catalogue.json", "quorum/1/.gitkeep"):
        path = spec.repository_path / name
        before = path.read_bytes()
        path.unlink()
        assert list(difference(spec).write) == [name]
        render(spec)
        assert path.read_bytes() == before
    (spec.repository_path / "quorum_vote" / "1" / "weights.json").write_text("{", encoding="utf-8")
    assert list(difference(spec).misfits) == [1]


def test_files_are_a_function_of_deployment_and_state_alone(spec: Deployment) -> None:
    state = State((1, 4), {STABLE: 1, CANARY: 4}, 0.5)
    files = rendered_files(spec, state, spec.repository_path)
    assert files == rendered_files(spec, state, spec.repository_path)
    assert not spec.repository_path.exists()
    other = rendered_files(spec, State((1, 4), {STABLE: 4, CANARY: 4}, 0.5), spec.repository_path)
    assert [name for name in files if files[name] != other[name]] == ["quorum/config.pbtxt"]
    other = rendered_files(spec, State((1, 4), {STABLE: 1, CANARY: 4}, 0.0), spec.repository_path)
    assert [name for name in files if files[name] != other[name]] == ["quorum_gate/config.pbtxt"]
    render(spec)
    Store(spec.repository_path).add_version(4, equal_weights(spec.member_names))
    set_state(spec, [1, 4], canary=4, share=0.5)
    assert {name: (spec.repository_path / name).read_text("utf-8") for name in files} == files


def test_what_configurations_say_of_versions_counts_for_nothing(spec: Deployment) -> None:
    """Somebody edits a rendered file: the state is what holds, and rendering puts the file back."""
    render(spec)
    before = tree(spec)
    config = spec.repository_path / "quorum" / "config.pbtxt"
    config.write_text(config.read_text("utf-8").replace("model_version: 1", "model_version: 7"), "utf-8")
    assert Store(spec.repository_path).state().pins[STABLE] == 1
    assert list(difference(spec).write) == ["quorum/config.pbtxt"]
    render(spec)
    assert tree(spec) == before


def events(spec: Deployment) -> list[tuple[str, int, int | None]]:
    return [(e.action, e.version, e.before) for e in History(spec.repository_path).events()]


def test_every_state_that_rendering_sets_is_in_the_history(spec: Deployment) -> None:
    difference(spec)
    assert events(spec) == []
    render(spec)
    render(spec)
    assert events(spec) == [("render", 1, None)]
    assert reset_weights(spec) == 2
    assert events(spec) == [("render", 1, None), ("reset", 2, 1)]
    last = History(spec.repository_path).last()
    assert last is not None
    assert last.weights_hash == equal_weights(spec.member_names).content_hash
    assert difference(spec).is_clean
    assert not (spec.repository_path / "rollout.pending.json").exists()


def test_a_repository_of_before_is_taken_over_once(spec: Deployment) -> None:
    render(spec)
    teach(spec)
    set_state(spec, [1, 2], stable=2, share=0.05)
    store = Store(spec.repository_path)
    state, files = store.state(), tree(spec)
    store.state_path.unlink()
    with pytest.raises(RepositoryError, match=r"state\.json is missing: run `quorum render`"):
        store.state()
    assert list(difference(spec).write) == ["state.json"]
    assert list(render(spec).write) == ["state.json"]
    assert (store.state(), tree(spec)) == (state, files)
    assert events(spec)[-1] == ("migrate", 2, None)
    store.state_path.unlink()
    (store.path / VOTE / "config.pbtxt").unlink()
    render(spec)
    assert store.state() == state, "all that is on disk, where nothing says what is loaded"


@pytest.mark.parametrize("model", [VOTE, GATE, STABLE])
def test_a_configuration_that_cannot_be_taken_over_is_named(spec: Deployment, model: str) -> None:
    render(spec)
    store = Store(spec.repository_path)
    store.state_path.unlink()
    store.write_config(model, "{ not protobuf")
    with pytest.raises(RepositoryError, match=rf"{model}/config\.pbtxt.*restore it.*or remove it"):
        render(spec)
    (store.path / model / "config.pbtxt").unlink()
    render(spec)
    assert store.state() == State((1,), {STABLE: 1, CANARY: 1}, 0.0)


@pytest.mark.parametrize(
    "settings", ["[]", "{", '{"canary_share": "x"}', '{"canary_share": 2}', "[" * 100_000]
)
def test_settings_of_a_gate_that_cannot_be_taken_over_are_named(spec: Deployment, settings: str) -> None:
    render(spec)
    store = Store(spec.repository_path)
    store.state_path.unlink()
    gate = parse_config(store.read_config(GATE) or "")
    gate.parameters["quorum"].string_value = settings
    store.write_config(GATE, print_config(gate))
    with pytest.raises(RepositoryError, match=r"restore it .*or remove it"):
        render(spec)


def test_a_channel_without_a_vote_cannot_be_taken_over(spec: Deployment) -> None:
    render(spec)
    store = Store(spec.repository_path)
    store.state_path.unlink()
    store.write_config("quorum", 'name: "quorum"\nplatform: "ensemble"\n')
    with pytest.raises(RepositoryError, match=r"quorum/config\.pbtxt: no step asks 'quorum_vote'"):
        render(spec)


def test_an_interrupted_change_of_before_is_not_taken_over(spec: Deployment) -> None:
    render(spec)
    store = Store(spec.repository_path)
    store.state_path.unlink()
    (store.path / "rollout.pending.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RepositoryError, match=r"rollout\.pending\.json.*`quorum up`"):
        render(spec)
    assert not store.state_path.exists()

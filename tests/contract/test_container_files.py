# SPDX-License-Identifier: Apache-2.0
"""Dockerfile, .dockerignore and compose.yaml say what the rest of the repository says, and nothing more."""

import importlib
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import quorum
from quorum.build.versions import PINNED
from quorum.deployment import load_deployment
from quorum.server.exposure import INFERENCE_KEY_VARIABLE, TRUSTED_NETWORK_VARIABLE
from quorum.server.gateway_settings import DRAIN_S
from quorum.server.triton import TritonServer
from quorum.serving.budget import MEMBERS

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "scripts"))
CHECK, STEPS = map(importlib.import_module, ("container_check", "image_steps"))
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
STAGES = {stage.name: stage for stage in STEPS.read_stages(DOCKERFILE)}


def steps(target: str, keyword: str) -> list[str]:
    return [rest for word, rest in STAGES[target].steps if word == keyword]


def test_gpu_image_is_the_pinned_container():
    assert STAGES["gpu"].base == PINNED.image


def test_bases_are_pinned_to_exact_versions():
    for stage in STAGES.values():
        if stage.base not in STAGES:
            assert re.fullmatch(r"\S+:\d+\.\d+\S*", stage.base), stage.base


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_final_images_run_as_nobody_special_and_are_probed(target):
    assert [re.fullmatch(r"\d{5}:\d{5}", user) is not None for user in steps(target, "USER")] == [True]
    (health,) = steps(target, "HEALTHCHECK")
    assert '"quorum"' in health
    assert "quorum render && exec quorum up" in steps(target, "CMD")[0]
    words = [word for word, _ in STAGES[target].steps]
    assert words.index("USER") < words.index("CMD")
    assert "RUN" not in words[words.index("USER") :]


def test_no_secret_in_any_layer():
    for stage in STAGES.values():
        for word, rest in stage.steps:
            if word in ("ENV", "ARG"):
                assert not re.search(r"key|token|secret|password", rest, re.IGNORECASE), rest
            if word == "COPY":
                assert not re.search(r"\.env|pip\.conf|\.netrc", rest), rest


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_labels_say_what_an_image_is_and_what_it_was_built_from(target):
    (labels,) = steps(target, "LABEL")
    said = dict(re.findall(r'org\.opencontainers\.image\.([a-z.]+)="([^"]*)"', labels))
    assert said.keys() == {
        *("title", "description", "licenses", "version", "revision", "created", "source", "base.name"),
    }
    assert said["version"] == quorum.__version__
    # The stages before it are made from the base that is named.
    base = STAGES[target].base
    while base in STAGES:
        base = STAGES[base].base
    assert said["base.name"] == base
    assert {*steps(target, "ARG")} == {f"{name}=unknown" for name in ("REVISION", "CREATED", "SOURCE")}
    assert all(said[name] == f"${name.upper()}" for name in ("revision", "created", "source"))


@pytest.mark.parametrize("target", ["build", "cpu", "gpu"])
def test_every_file_that_is_copied_is_sent_to_the_builder(target):
    sent = STEPS.context()
    for rest in steps(target, "COPY"):
        if "--from=" in rest:
            continue
        *sources, _ = [word for word in rest.split() if not word.startswith("--")]
        for source in sources:
            assert any(f == source or f.startswith(f"{source}/") for f in sent), source


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("ensemble_backend/src/quorum/cli/plan.py", True),
        ("ensemble_backend/src/quorum/build/versions.py", True),
        ("ensemble_backend/build/lib/quorum/__init__.py", False),
        ("model_repository/quorum/config.pbtxt", True),
        ("examples/demo/models/demo-llama/config.json", True),
        ("examples/demo/train.py", False),
        (".env", False),
        (".git/config", False),
        ("tests/conftest.py", False),
        ("ensemble_backend/src/quorum/__pycache__/contract.pyc", False),
    ],
)
def test_only_what_images_need_is_sent(path, sent):
    patterns = [p for p in (ROOT / ".dockerignore").read_text().split("\n") if p and not p.startswith("#")]
    assert STEPS.is_ignored(path, patterns) is not sent


@pytest.mark.parametrize(
    ("service", "target", "file"),
    [("quorum-cpu", "cpu", "deploy.yaml"), ("quorum-gpu", "gpu", "deploy.gpu.yaml")],
)
def test_compose_keeps_weights_and_gives_time_to_finish(service, target, file):
    found = COMPOSE["services"][service]
    assert found["profiles"] == [target]
    assert found["build"]["target"] == target
    places = {volume.split(":")[1]: volume.split(":")[0] for volume in found["volumes"]}
    assert places[f"/srv/quorum/{file}"] == f"./{file}"
    weights = places[f"/srv/quorum/{load_deployment(ROOT / file).repository}"]
    assert weights in COMPOSE["volumes"]
    # What members spent outlives the container; a new volume takes its owner from the folder of the image.
    assert places[f"/srv/quorum/{MEMBERS.folder}"] in COMPOSE["volumes"]
    assert any(f" /srv/quorum/{MEMBERS.folder} " in step for step in steps(target, "RUN"))
    drain = inspect.signature(TritonServer.stop).parameters["drain_s"].default
    # Waiting for requests in flight and waiting for Triton to end may each take this long, after the gateway.
    assert int(found["stop_grace_period"].removesuffix("s")) > 2 * drain + DRAIN_S
    assert all(port.startswith("127.0.0.1:") for port in found["ports"])
    assert found["shm_size"]


@pytest.mark.parametrize("service", ["quorum-cpu", "quorum-gpu"])
def test_compose_publishes_what_callers_need_and_says_that_its_network_is_trusted(service):
    found = COMPOSE["services"][service]
    assert found["ports"] == ["127.0.0.1:8001:8001", "127.0.0.1:8002:8002"]
    assert found["environment"][TRUSTED_NETWORK_VARIABLE] == "1"
    assert found["environment"][INFERENCE_KEY_VARIABLE] == f"${{{INFERENCE_KEY_VARIABLE}:-}}"


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_an_image_trusts_no_network_by_itself(target):
    assert steps(target, "EXPOSE") == ["8001 8002"]
    set_here = " ".join(steps(target, "ENV"))
    assert "QUORUM_HOST=0.0.0.0" in set_here
    assert TRUSTED_NETWORK_VARIABLE not in set_here


@pytest.mark.parametrize(
    "file", ["deploy.yaml", "deploy.gpu.yaml", "deploy.gpu-fp8.yaml", "deploy.engine.yaml"]
)
def test_no_example_opens_more_than_it_must(file):
    server = load_deployment(ROOT / file).server
    assert (server.host, server.http, server.trusted_network) == ("127.0.0.1", False, False)


def test_the_check_tells_a_good_container_from_bad_ones():
    good = {
        "users": {"10001": ["quorum"]},
        "refused_without_key": True,
        "answered_outside": {"key": True, "no key": False},
        "reached_from_outside": {"8001": True, "8000": False, "8002": False},
        "exit_code": 0,
    }
    assert CHECK.judge(good) == []
    for key, bad in (
        ("refused_without_key", False),
        ("answered_outside", {"key": True, "no key": True}),
        ("answered_outside", {"key": False, "no key": False}),
        ("reached_from_outside", {"8001": True, "8000": True, "8002": False}),
        ("reached_from_outside", {"8001": False, "8000": False, "8002": False}),
    ):
        assert len(CHECK.judge({**good, key: bad})) == 1


def test_the_check_uses_the_shared_memory_of_compose():
    assert COMPOSE["services"]["quorum-cpu"]["shm_size"].startswith(CHECK.SHM)


def test_target_brings_the_stages_it_is_made_of():
    assert [stage.name for stage in STEPS.chain(list(STAGES.values()), "cpu")] == ["python", "build", "cpu"]
    assert [stage.name for stage in STEPS.chain(list(STAGES.values()), "gpu")] == ["gpu"]


def test_hadolint_is_content():
    program = shutil.which("hadolint") or shutil.which("hadolint", path=str(ROOT / ".venv" / "bin"))
    assert program, "hadolint is in requirements/dev.txt: run `make setup-dev`"
    done = subprocess.run([program, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout

# SPDX-License-Identifier: Apache-2.0
"""What pods of the chart run is understood by this release: commands, variables, ports, deploy.yaml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from support.helm import CASES, ROOT, Manifest, containers, deploy_file, kind, manifests, pods

from quorum.cli import app
from quorum.deployment import Deployment, load_deployment
from quorum_contract import STABLE

COMMANDS: dict[str, Any] = vars(typer.main.get_command(app))["commands"]
KNOWN_VARIABLE = re.compile(r"\bQUORUM_[A-Z_]+\b")


def loaded(found: list[Manifest], folder: Path) -> Deployment:
    """The deploy.yaml of a rendering, as a pod loads it."""
    path = folder / "deploy.yaml"
    path.write_text(deploy_file(found), "utf-8")
    return load_deployment(path)


@pytest.mark.parametrize("name", CASES)
def test_pods_listen_where_their_deployment_says(name: str, tmp_path: Path) -> None:
    found = manifests(name)
    spec = loaded(found, tmp_path)
    for pod_name, pod in pods(found):
        for container in pod["spec"]["containers"]:
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            if container["name"] == "gateway":
                assert spec.gateway
                assert ports == {key.removesuffix("_port"): port for key, port in spec.gateway.ports.items()}
                continue
            (probes,) = (a for a in container["args"] if a.startswith("--probe-port="))
            wanted = {"grpc": spec.server.grpc_port, "probes": int(probes.partition("=")[2])}
            if spec.server.metrics:
                wanted["metrics"] = spec.server.metrics.port
            if "--no-gateway" in container["args"]:
                wanted["triton-metrics"] = spec.server.metrics_port
            assert ports == wanted, pod_name
            assert len(set(ports.values())) == len(ports)
            mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert f"/srv/quorum/{spec.repository}" in mounted
            assert container["readinessProbe"]["httpGet"] == {"path": f"/ready/{STABLE}", "port": "probes"}
            assert container["livenessProbe"]["httpGet"] == {"path": "/live", "port": "probes"}


@pytest.mark.parametrize("name", CASES)
def test_commands_and_variables_are_known(name: str) -> None:
    sources = [*(ROOT / "ensemble_backend" / "src").rglob("*.py")]
    known = {word for path in sources for word in KNOWN_VARIABLE.findall(path.read_text("utf-8"))}
    for _, pod in pods(manifests(name)):
        for container in containers(pod):
            assert {v["name"] for v in container["env"] if v["name"].startswith("QUORUM_")} <= known
            program, *arguments = [*container["command"], *container.get("args", [])]
            if program != "quorum":
                assert container["name"].startswith("fetch-")
                continue
            command, *options = arguments
            COMMANDS[command].make_context(command, options)


def test_the_chart_has_the_version_of_the_package() -> None:
    chart = yaml.safe_load((ROOT / "deploy" / "helm" / "quorum" / "Chart.yaml").read_text("utf-8"))
    project = (ROOT / "ensemble_backend" / "pyproject.toml").read_text("utf-8")
    assert re.search(rf'^version = "{re.escape(chart["appVersion"])}"', project, re.MULTILINE)
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    for _, pod in pods(manifests("key")):
        assert f"useradd --uid {pod['spec']['securityContext']['runAsUser']} " in dockerfile
        assert {c["workingDir"] for c in containers(pod)} == {"/srv/quorum"}
    assert "WORKDIR /srv/quorum" in dockerfile
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    grace = compose["services"]["quorum-cpu"]["stop_grace_period"]
    (server,) = kind(manifests("key"), "StatefulSet")
    assert f"{server['spec']['template']['spec']['terminationGracePeriodSeconds']}s" == grace

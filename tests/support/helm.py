# SPDX-License-Identifier: Apache-2.0
"""The chart rendered by a real helm, over a matrix of values and deployments."""

from __future__ import annotations

import copy
import functools
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "quorum"
Manifest = dict[str, Any]
METRICS = {"host": "0.0.0.0", "port": 8003}
GATEWAY = {"host": "0.0.0.0", "grpc_port": 8011, "http_port": 8010, "keys": "keys/keys.json"}
TLS = {"certificate": "tls/tls.crt", "key": "tls/tls.key"}
FLEET = [{"grpc": "dns:quorum-fleet:8001"}]


def helm_program() -> str:
    """The path of helm; skips the test where it was not fetched."""
    path = ROOT / ".cache" / "helm" / "helm"
    if not path.exists():
        pytest.skip(f"no helm on this machine; `{Path(sys.executable).name} scripts/helm_tool.py` fetches it")
    return str(path)


def deployment(file: str = "deploy.yaml", **sections: Any) -> str:
    """A deployment of this repository with other sections; ``None`` leaves one out."""
    spec = yaml.safe_load((ROOT / file).read_text("utf-8"))
    spec |= {"server": {**spec["server"], "metrics": METRICS}} | sections
    kept = {key: value for key, value in spec.items() if value is not None}
    return yaml.safe_dump(kept, allow_unicode=True, sort_keys=False)


@dataclass(frozen=True)
class Case:
    """Values and a deployment; an empty one is the chart's own."""

    values: dict[str, Any] = field(default_factory=dict)
    deployment: str = ""


CASES = {
    "demo": Case(),
    "key": Case({"service": {"type": "LoadBalancer"}}, deployment()),
    "key-open-network": Case(
        {"networkPolicy": {"enabled": False}, "nameOverride": "shop"}, deployment(server={"grpc_port": 9001})
    ),
    "fleet": Case(
        {
            "server": {"replicas": 3},
            "repository": {"shared": True, "storageClass": "nfs"},
            "monitoring": {
                "serviceMonitor": True,
                "rules": True,
                "dashboard": True,
                "labels": {"release": "prometheus"},
            },
            "secrets": {"env": [{"variable": "OPENAI_API_KEY", "name": "openai", "key": "api-key"}]},
            "networkPolicy": {
                "serverEgress": [{"ports": [{"port": 443}]}],
                "gatewayEgress": [{"ports": [{"port": 4318}]}],
            },
        },
        deployment(gateway=GATEWAY, fleet=FLEET),
    ),
    "gpu": Case(
        {
            "image": {"tag": "gpu"},
            "server": {
                "gpus": 2,
                "startTimeout": 900,
                "sharedMemory": "8Gi",
                "resources": {"requests": {"cpu": "8", "memory": "48Gi"}, "limits": {"memory": "64Gi"}},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
                "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
                "runtimeClassName": "nvidia",
            },
            "repository": {"shared": True, "existingClaim": "weights"},
            "models": {"claim": "models", "fetch": [["hf", "download", "Qwen/Qwen2.5-7B-Instruct"]]},
            "networkPolicy": {"serverEgress": [{"ports": [{"port": 443}]}]},
            "gateway": {"tag": "cpu"},
            "autoscaling": {"enabled": True},
            "monitoring": {"serviceMonitor": True},
        },
        deployment("deploy.gpu.yaml", gateway=GATEWAY, fleet=FLEET),
    ),
    "tls": Case(
        {"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["198.51.100.0/24"]}},
        deployment(gateway=GATEWAY | {"tls": TLS}),
    ),
    "mutual-tls": Case(
        {"image": {"tag": f"sha256:{'0' * 64}"}, "imagePullSecrets": [{"name": "registry"}]},
        deployment(gateway=GATEWAY | {"http_port": None, "tls": TLS | {"client_ca": "tls/ca.crt"}}),
    ),
    "grpc-only": Case(
        {"networkPolicy": {"callers": [{"podSelector": {}}]}},
        deployment(gateway=GATEWAY | {"http_port": None}),
    ),
}


def template(case: Case) -> subprocess.CompletedProcess[str]:
    """Run ``helm template``."""
    with tempfile.TemporaryDirectory() as folder:
        values = Path(folder) / "values.json"
        values.write_text(json.dumps(case.values | {"deployment": case.deployment}))
        return subprocess.run(
            [helm_program(), "template", "quorum", str(CHART), "-n", "shop", "-f", str(values)],
            capture_output=True,
            text=True,
            check=False,
        )


@functools.cache
def _rendered(name: str) -> list[Manifest]:
    done = template(CASES[name])
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.load_all(done.stdout, yaml.CSafeLoader) if one]


def manifests(name: str) -> list[Manifest]:
    """What ``helm template`` renders of a case; a copy, to be changed."""
    return copy.deepcopy(_rendered(name))


def kind(found: list[Manifest], name: str) -> list[Manifest]:
    """The manifests of a kind."""
    return [one for one in found if one["kind"] == name]


def pods(found: list[Manifest]) -> list[tuple[str, Manifest]]:
    """Name and template of the pods of each workload."""
    return [
        (one["metadata"]["name"], one["spec"]["template"])
        for one in found
        if one["kind"] in ("Deployment", "StatefulSet")
    ]


def containers(pod: Manifest) -> list[Manifest]:
    """All containers of a pod, init containers first."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def deploy_file(found: list[Manifest]) -> str:
    """The deploy.yaml that pods see."""
    (text,) = [one["data"]["deploy.yaml"] for one in kind(found, "ConfigMap") if "deploy.yaml" in one["data"]]
    return str(text)

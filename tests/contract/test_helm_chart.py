# SPDX-License-Identifier: Apache-2.0
"""The chart is rendered over a matrix of values; schemas and policies hold for all of it. Never scheduled."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml
from support.helm import (
    CASES,
    CHART,
    FLEET,
    GATEWAY,
    METRICS,
    ROOT,
    TLS,
    Case,
    Manifest,
    deployment,
    helm_program,
    kind,
    manifests,
    pods,
    template,
)
from support.policies import POLICIES, Policy

OPERATOR = {"ServiceMonitor", "PrometheusRule"}
"""Kinds of the Prometheus operator, which Kubernetes' own schemas do not have."""


def test_helm_finds_nothing_to_say() -> None:
    done = subprocess.run(
        [helm_program(), "lint", "--strict", str(CHART)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module", autouse=True)
def _schemas_read_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        utils = kubernetes_validate.utils
        patch.setattr(utils, "schema_contents", functools.cache(utils.schema_contents))
        yield


@pytest.mark.parametrize("version", ["1.33", "1.34", "1.35"])
def test_schemas_of_kubernetes_hold_for_all_that_is_rendered(version: str) -> None:
    distinct = {
        json.dumps(one, sort_keys=True)
        for name in CASES
        for one in manifests(name)
        if one["kind"] not in OPERATOR
    }
    assert len(distinct) > 30
    for text in distinct:
        kubernetes_validate.validate(json.loads(text), version, strict=True)


def test_a_misspelt_key_is_seen() -> None:
    (server,) = kind(manifests("key"), "StatefulSet")
    server["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(server, "1.35", strict=True)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.__name__)
@pytest.mark.parametrize("name", CASES)
def test_policies_hold(name: str, policy: Policy) -> None:
    assert list(policy(manifests(name))) == []


def _spec(found: list[Manifest], name: str = "quorum") -> Any:
    return dict(pods(found))[name]["spec"]


def _service(found: list[Manifest], name: str) -> Any:
    return next(one["spec"] for one in kind(found, "Service") if one["metadata"]["name"] == name)


def _policy_of(found: list[Manifest], name: str) -> Any:
    return next(one["spec"] for one in kind(found, "NetworkPolicy") if one["metadata"]["name"] == name)


BREAKS: dict[str, Callable[[list[Manifest]], object]] = {
    "restricted root": lambda m: _spec(m)["securityContext"].pop("runAsNonRoot"),
    "restricted seccomp": lambda m: _spec(m)["securityContext"].pop("seccompProfile"),
    "restricted host": lambda m: _spec(m).update(hostNetwork=True),
    "restricted disk": lambda m: _spec(m)["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
    "restricted privileged": lambda m: _spec(m)["containers"][0]["securityContext"].update(privileged=True),
    "restricted init": lambda m: _spec(m)["initContainers"][0].pop("securityContext"),
    "without_cluster_rights token": lambda m: _spec(m).pop("automountServiceAccountToken"),
    "without_cluster_rights links": lambda m: _spec(m).pop("enableServiceLinks"),
    "without_cluster_rights role": lambda m: m.append({"kind": "ClusterRole", "metadata": {"name": "x"}}),
    "secrets_named_only made": lambda m: m.append({"kind": "Secret", "metadata": {"name": "x"}}),
    "secrets_named_only value": lambda m: _spec(m)["containers"][0]["env"].append(
        {"name": "HF_TOKEN", "value": "hf_x"}
    ),
    "triton_private balancer": lambda m: _service(m, "quorum-servers").update(type="LoadBalancer"),
    "triton_private cluster": lambda m: _service(m, "quorum-fleet").pop("clusterIP"),
    "triton_private ingress": lambda m: m.append({"kind": "Ingress", "metadata": {"name": "x"}}),
    "network_covered none": lambda m: _policy_of(m, "quorum-gateway")["podSelector"]["matchLabels"].update(
        x="y"
    ),
    "network_covered all": lambda m: _policy_of(m, "quorum-server")["ingress"][0].pop("from"),
    "network_covered any port": lambda m: _policy_of(m, "quorum-server")["ingress"][0].pop("ports"),
    "network_covered any pod": lambda m: _policy_of(m, "quorum-server")["ingress"][0]["from"].append(
        {"podSelector": {}}
    ),
    "network_covered scraper": lambda m: _policy_of(m, "quorum-server")["ingress"][1]["ports"].append(
        {"port": 8001}
    ),
    "stops_in_order time": lambda m: _spec(m).pop("terminationGracePeriodSeconds"),
    "stops_in_order gateway": lambda m: _spec(m, "quorum-gateway")["containers"][0].pop("lifecycle"),
    "disruptions_limited none": lambda m: m.remove(kind(m, "PodDisruptionBudget")[0]),
    "disruptions_limited strict": lambda m: kind(m, "PodDisruptionBudget")[0]["spec"].update(
        maxUnavailable=0
    ),
    "resources_bounded none": lambda m: _spec(m, "quorum-gateway")["containers"][0].pop("resources"),
    "resources_bounded memory": lambda m: _spec(m)["volumes"][2]["emptyDir"].update(sizeLimit="4Gi"),
    "places_exist volume": lambda m: _spec(m)["volumes"].pop(0),
    "places_exist memory": lambda m: _spec(m)["volumes"][2].update(emptyDir={}),
    "places_exist disk": lambda m: _spec(m)["containers"][0]["volumeMounts"].pop(1),
    "places_exist port": lambda m: _spec(m)["containers"][0]["ports"].pop(0),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_each_policy_sees_what_breaks_it(broken: str) -> None:
    name = broken.partition(" ")[0]
    found = manifests("demo")
    BREAKS[broken](found)
    seen = {policy.__name__ for policy in POLICIES if list(policy(found))}
    assert name in seen


FETCH = [["hf", "download", "Qwen/Qwen2.5-7B-Instruct"]]
OPEN = {"serverEgress": [{"ports": [{"port": 443}]}]}
REFUSED: dict[str, tuple[Case, str]] = {
    "unknown value": (Case({"server": {"replica": 2}}), "additional properties 'replica' not allowed"),
    "wrong type": (Case({"server": {"gpus": "one"}}), "/server/gpus"),
    "our variable": (
        Case({"secrets": {"env": [{"variable": "QUORUM_HOST", "name": "x", "key": "y"}]}}),
        "/secrets/env/0/variable",
    ),
    "no YAML": (Case({}, "members: ["), "deployment: not YAML"),
    "no members": (Case({}, "attributes: {}"), "--set-file deployment=deploy.yaml"),
    "own weights": (Case({"server": {"replicas": 2}}), "set repository.shared=true"),
    "no fleet": (
        Case({"server": {"replicas": 2}, "repository": {"shared": True}}),
        'fleet: [{grpc: "dns:quorum-fleet:8001"}]',
    ),
    "open network": (Case({"networkPolicy": {"enabled": False}}), "leave the policy on"),
    "metrics on loopback": (Case({}, deployment(server={"metrics": {"port": 8003}})), "host: 0.0.0.0"),
    "gateway on loopback": (Case({}, deployment(gateway={"grpc_port": 8011})), "gateway.host"),
    "gateway without ports": (
        Case({}, deployment(gateway={**GATEWAY, "grpc_port": None, "http_port": None})),
        "grpc_port or an http_port",
    ),
    "keys in the root": (Case({}, deployment(gateway={**GATEWAY, "keys": "keys.json"})), "keys/keys.json"),
    "a free port": (Case({}, deployment(server={"grpc_port": 0})), "server.grpc_port: a free port"),
    "certificate elsewhere": (
        Case({}, deployment(gateway={**GATEWAY, "tls": {**TLS, "key": "keys/tls.key"}})),
        "write them into one folder",
    ),
    "nothing to scrape": (
        Case({"monitoring": {"serviceMonitor": True}}, deployment(server={})),
        "autoscaling and monitoring need it",
    ),
    "downloads without a volume": (
        Case({"models": {"fetch": FETCH}, "networkPolicy": OPEN}),
        "name a volume by models.claim",
    ),
    "downloads to a read-only volume": (
        Case({"models": {"fetch": FETCH, "claim": "models", "readOnly": True}, "networkPolicy": OPEN}),
        "models.readOnly: models.fetch writes there",
    ),
    "downloads that nothing lets out": (
        Case({"models": {"fetch": FETCH, "claim": "models"}}),
        "serverEgress: [{ports: [{port: 443}]}]",
    ),
    "a log in the root": (
        Case({}, deployment(gateway=GATEWAY | {"request_log": {"path": "requests.jsonl"}})),
        "path: .quorum/requests.jsonl",
    ),
    "a log beyond the volume": (
        Case({}, deployment(gateway=GATEWAY | {"request_log": {"path": ".quorum/../requests.jsonl"}})),
        "path: .quorum/requests.jsonl",
    ),
    "metrics on the port of probes": (
        Case({}, deployment(server={"metrics": {"host": "0.0.0.0", "port": 8004}})),
        "two of them are 8004",
    ),
    "one port for two": (Case({}, deployment(server={"grpc_port": 8002})), "two of them are 8002"),
    "fleet of another release": (
        Case(
            {"server": {"replicas": 2}, "repository": {"shared": True}, "nameOverride": "shop"},
            deployment(gateway=GATEWAY, fleet=FLEET),
        ),
        'fleet: [{grpc: "dns:shop-fleet:8001"}]',
    ),
    "more than the most": (
        Case(
            {"autoscaling": {"enabled": True, "minReplicas": 9}, "repository": {"shared": True}},
            deployment(gateway=GATEWAY, fleet=FLEET),
        ),
        "more than maxReplicas",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_with_the_way_out(name: str) -> None:
    case, words = REFUSED[name]
    done = template(case)
    assert done.returncode != 0
    assert words in done.stderr


@pytest.mark.parametrize("path", [".quorum/requests.jsonl", "/srv/quorum/.quorum/r.jsonl", "/tmp/r.jsonl"])
def test_a_log_of_requests_may_be_where_a_gateway_can_write(path: str) -> None:
    done = template(Case({}, deployment(gateway=GATEWAY | {"request_log": {"path": path}})))
    assert done.returncode == 0, done.stderr


def test_gpus_weights_and_checkpoints_get_to_the_server() -> None:
    found = manifests("gpu")
    spec = _spec(found)
    (server,) = spec["containers"]
    assert [one["name"] for one in spec["initContainers"]] == ["fetch-0", "render"]
    assert server["resources"]["limits"] == {"memory": "64Gi", "nvidia.com/gpu": "2"}
    assert {"QUORUM_DEPLOY", "HF_HOME"} <= {variable["name"] for variable in server["env"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in server["volumeMounts"]}
    assert (mounts["/models"], mounts["/srv/quorum/model_repository.gpu"]) == ("models", "repository")
    claims = {v["name"]: v["persistentVolumeClaim"] for v in spec["volumes"] if "persistentVolumeClaim" in v}
    assert claims == {"models": {"claimName": "models"}, "repository": {"claimName": "weights"}}
    assert kind(found, "PersistentVolumeClaim") == []
    (gateway,) = _spec(found, "quorum-gateway")["containers"]
    assert gateway["image"].endswith(":cpu")
    assert "QUORUM_ADMIN_KEY" not in {variable["name"] for variable in gateway["env"]}
    (workload,) = kind(found, "StatefulSet")
    assert "replicas" not in workload["spec"]


def test_probes_of_a_gateway_are_those_that_kubernetes_can_do() -> None:
    ready = {}
    for name in ("demo", "tls", "mutual-tls", "grpc-only"):
        (gateway,) = _spec(manifests(name), "quorum-gateway")["containers"]
        probe = gateway["readinessProbe"]
        ready[name] = {key: probe[key] for key in ("httpGet", "grpc", "tcpSocket") if key in probe}
    page = {"path": "/v2/health/ready", "port": "http"}
    assert ready == {
        "demo": {"httpGet": page | {"scheme": "HTTP"}},
        "tls": {"httpGet": page | {"scheme": "HTTPS"}},
        "mutual-tls": {"tcpSocket": {"port": "grpc"}},
        "grpc-only": {"grpc": {"port": 8011, "service": "quorum"}},
    }


def test_prometheus_finds_what_the_rules_and_the_autoscaler_name() -> None:
    found = manifests("fleet")
    (monitor,) = kind(found, "ServiceMonitor")
    service = next(one for one in kind(found, "Service") if one["metadata"]["name"] == "quorum-fleet")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    ports = {port["name"] for port in service["spec"]["ports"]}
    jobs = {one["port"]: one["relabelings"][0]["replacement"] for one in monitor["spec"]["endpoints"]}
    assert jobs == {"metrics": "quorum", "triton-metrics": "triton"}
    assert jobs.keys() <= ports
    (rule,) = kind(found, "PrometheusRule")
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "quorum.rules.yml").read_text("utf-8"))
    assert rule["spec"] == rules
    board = next(
        one["data"] for one in kind(found, "ConfigMap") if one["metadata"]["name"].endswith("dashboard")
    )
    committed = (ROOT / "deploy" / "grafana" / "quorum.json").read_text("utf-8")
    assert json.loads(board["quorum.json"]) == json.loads(committed)
    (scaler,) = kind(manifests("gpu"), "HorizontalPodAutoscaler")
    wanted = {one["pods"]["metric"]["name"] for one in scaler["spec"]["metrics"]}
    adapter = yaml.safe_load((CHART.parent / "prometheus-adapter.yaml").read_text("utf-8"))
    assert {one["name"]["as"] for one in adapter["rules"]["custom"]} == wanted
    assert METRICS["port"] in {p["port"] for p in service["spec"]["ports"]}


def test_the_kserve_example_is_the_same_pod() -> None:
    one = yaml.safe_load((ROOT / "deploy" / "kserve" / "inferenceservice.yaml").read_text("utf-8"))
    predictor = one["spec"]["predictor"]
    most = {predictor.pop(key) for key in ("minReplicas", "maxReplicas")}
    assert most == {1}
    labels = {"app.kubernetes.io/component": "server"}
    pod = {"metadata": {"name": "x", "labels": labels}, "spec": predictor}
    for version in ("1.33", "1.35"):
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", **pod}, version, strict=True)
    found: list[Manifest] = [
        {"kind": "Deployment", "metadata": {"name": "x"}, "spec": {"template": pod}},
    ]
    by_name = {policy.__name__: policy for policy in POLICIES}
    for name in ("restricted", "without_cluster_rights", "secrets_named_only", "places_exist"):
        assert list(by_name[name](found)) == [], name
    chart = _spec(manifests("key"))
    assert predictor["securityContext"].items() <= chart["securityContext"].items()
    for key in ("shareProcessNamespace", "terminationGracePeriodSeconds"):
        assert predictor[key] == chart[key]

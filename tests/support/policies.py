# SPDX-License-Identifier: Apache-2.0
"""What must hold for every rendering of the chart: each policy yields a line for each fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from support.helm import Manifest, containers, kind, pods

Policy = Callable[[list[Manifest]], Iterator[str]]
SECRET_NAMES = ("KEY", "TOKEN", "PASSWORD", "SECRET")
_SIZES = {"Mi": 1, "Gi": 1024}
_OPEN = ("LoadBalancer", "NodePort")


def restricted(found: list[Manifest]) -> Iterator[str]:
    """Pods keep Kubernetes' restricted standard, with a read-only root."""
    for name, pod in pods(found):
        spec = pod["spec"]
        own = spec.get("securityContext", {})
        if not own.get("runAsNonRoot") or not own.get("runAsUser"):
            yield f"{name}: may run as root"
        if own.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name}: no seccomp profile"
        for shared in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(shared):
                yield f"{name}: {shared}"
        yield from (f"{name}: volume of the host" for v in spec["volumes"] if "hostPath" in v)
        for container in containers(pod):
            context = container.get("securityContext", {})
            wanted = {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            if context != wanted:
                yield f"{name}/{container['name']}: security context {context}"


def without_cluster_rights(found: list[Manifest]) -> Iterator[str]:
    """Pods get neither a token of the cluster nor variables made from Services' names."""
    for name, pod in pods(found):
        for key in ("automountServiceAccountToken", "enableServiceLinks"):
            if pod["spec"].get(key) is not False:
                yield f"{name}: {key}"
    yield from (f"{one['kind']}: not ours" for one in found if "Role" in one["kind"])


def secrets_named_only(found: list[Manifest]) -> Iterator[str]:
    """No secret is in a manifest."""
    yield from (f"Secret {one['metadata']['name']}" for one in kind(found, "Secret"))
    for name, pod in pods(found):
        for container in containers(pod):
            for variable in container.get("env", []):
                if variable["name"].endswith(SECRET_NAMES) and "valueFrom" not in variable:
                    yield f"{name}: {variable['name']} has its value in the manifest"


def _selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


def _trusts_network(pod: Manifest) -> bool:
    return any(v["name"] == "QUORUM_TRUSTED_NETWORK" for c in containers(pod) for v in c.get("env", []))


def triton_private(found: list[Manifest]) -> Iterator[str]:
    """No Service shows outsiders a Triton that asks for no key, nor a server's other ports."""
    yield from (f"{one['kind']}: opens a pod" for one in found if one["kind"] in ("Ingress", "HTTPRoute"))
    for service in kind(found, "Service"):
        name, spec = service["metadata"]["name"], service["spec"]
        for _, pod in pods(found):
            labels = pod["metadata"]["labels"]
            if labels["app.kubernetes.io/component"] != "server" or not _selects(spec["selector"], labels):
                continue
            if _trusts_network(pod) and (spec.get("clusterIP") != "None" or spec.get("type") in _OPEN):
                yield f"Service {name}: shows Triton"
            elif spec.get("clusterIP") != "None" and {p["targetPort"] for p in spec["ports"]} != {"grpc"}:
                yield f"Service {name}: shows more than the port that checks a key"


def network_covered(found: list[Manifest]) -> Iterator[str]:
    """Every pod has a policy; one that trusts its network is asked by named peers only, at named ports."""
    policies = [one["spec"] for one in kind(found, "NetworkPolicy")]
    for name, pod in pods(found):
        labels = pod["metadata"]["labels"]
        own = [p for p in policies if _selects(p["podSelector"].get("matchLabels", {}), labels)]
        if not any(set(p["policyTypes"]) == {"Ingress", "Egress"} for p in own):
            if policies or _trusts_network(pod):
                yield f"{name}: no policy"
            continue
        ports = {port["containerPort"]: port["name"] for c in containers(pod) for port in c.get("ports", [])}
        for rule in (rule for p in own for rule in p.get("ingress", [])):
            opened = [port.get("port") for port in rule.get("ports", [])]
            if not opened or not set(opened) <= ports.keys():
                yield f"{name}: opens ports {opened} of {sorted(ports)}"
            elif _trusts_network(pod):
                yield from _wrong_peers(name, rule, {ports[port] for port in opened}, labels)


def _wrong_peers(name: str, rule: Any, opened: set[str], labels: dict[str, str]) -> Iterator[str]:
    if not rule.get("from"):
        yield f"{name}: {opened} is open to all"
    for peer in rule.get("from", []):
        selector = peer.get("podSelector", {}).get("matchLabels", {})
        instance = "app.kubernetes.io/instance"
        own = "namespaceSelector" not in peer and selector.get(instance) == labels[instance]
        if "ipBlock" in peer or not selector or ("grpc" in opened and not own):
            yield f"{name}: {opened} is open to {peer}"


def stops_in_order(found: list[Manifest]) -> Iterator[str]:
    """A pod leaves its Services before it stops, and has time to answer what is in flight."""
    for name, pod in pods(found):
        for container in pod["spec"]["containers"]:
            wait_s = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            if not wait_s:
                yield f"{name}: does not wait for its Services"
            least = 100 if container["name"] == "server" else 35
            if pod["spec"].get("terminationGracePeriodSeconds", 30) < least + wait_s:
                yield f"{name}: is killed before it has answered"


def disruptions_limited(found: list[Manifest]) -> Iterator[str]:
    """Each workload has one budget, which lets a node be drained."""
    budgets = [one["spec"] for one in kind(found, "PodDisruptionBudget")]
    for name, pod in pods(found):
        own = [b for b in budgets if _selects(b["selector"]["matchLabels"], pod["metadata"]["labels"])]
        if [b.get("maxUnavailable") for b in own] != [1]:
            yield f"{name}: disruption budgets {own}"


def resources_bounded(found: list[Manifest]) -> Iterator[str]:
    """Memory has limits, and shared memory fits into its pod's."""
    for name, pod in pods(found):
        for container in containers(pod):
            limit = container.get("resources", {}).get("limits", {}).get("memory")
            if not limit:
                yield f"{name}/{container['name']}: no memory limit"
            for volume in pod["spec"]["volumes"]:
                size = volume.get("emptyDir", {}).get("sizeLimit")
                if size and limit and _mebibytes(size) >= _mebibytes(limit):
                    yield f"{name}: shared memory of {size} in {limit}"


def _mebibytes(size: str) -> float:
    return float(size[:-2]) * _SIZES[size[-2:]]


def places_exist(found: list[Manifest]) -> Iterator[str]:
    """Every mount has its volume, /tmp and (of servers) /dev/shm are writable, every name leads somewhere."""
    for name, pod in pods(found):
        claims = [
            claim["metadata"]["name"]
            for one in found
            if one["metadata"]["name"] == name
            for claim in one.get("spec", {}).get("volumeClaimTemplates", [])
        ]
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for container in containers(pod):
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            yield from (f"{name}: no volume {m}" for m in mounts.values() if m not in {*volumes, *claims})
            if "emptyDir" not in volumes.get(mounts.get("/tmp", ""), {}):
                yield f"{name}: /tmp cannot be written"
            memory = volumes.get(mounts.get("/dev/shm", ""), {}).get("emptyDir", {})
            if container["name"] == "server" and memory.get("medium") != "Memory":
                yield f"{name}: /dev/shm is not in memory"
    yield from _lost_references(found)


def _lost_references(found: list[Manifest]) -> Iterator[str]:
    for service in kind(found, "Service"):
        spec = service["spec"]
        targets = [p for _, p in pods(found) if _selects(spec["selector"], p["metadata"]["labels"])]
        named = {port["name"] for pod in targets for c in containers(pod) for port in c.get("ports", [])}
        wanted = {port["targetPort"] for port in spec["ports"]}
        if not targets or not wanted <= named:
            yield f"Service {service['metadata']['name']}: leads to {named}, not {wanted}"
    workloads = {(one["kind"], one["metadata"]["name"]) for one in found}
    for scaler in kind(found, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) not in workloads:
            yield f"autoscaler: no {target}"
    for one in kind(found, "StatefulSet"):
        if ("Service", one["spec"]["serviceName"]) not in workloads:
            yield f"StatefulSet: no Service {one['spec']['serviceName']}"


POLICIES: tuple[Policy, ...] = (
    restricted,
    without_cluster_rights,
    secrets_named_only,
    triton_private,
    network_covered,
    stops_in_order,
    disruptions_limited,
    resources_bounded,
    places_exist,
)

# SPDX-License-Identifier: Apache-2.0
"""A rendered pod as processes here: its commands, variables, mounts and probes, in namespaces of its own.

The root is read-only, no process has a capability, and volumes are folders. There is no kubelet, no image and
no cluster; processes keep this user where Python lies out of reach of others. Needs root.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.helm import ROOT, Manifest, deploy_file

IMAGE = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
IMAGE |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
"""What the Dockerfile sets."""
USER = 10001
_WITHOUT_RIGHTS = ["setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
_PAUSE = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); signal.pause()"
_HTTP = """
import sys, urllib.request
sys.exit(urllib.request.urlopen(sys.argv[1], timeout=float(sys.argv[2])).status != 200)
"""
_GRPC = """
import sys, grpc
service = sys.argv[2].encode()
raw = bytes([10, len(service)]) + service if service else b""
with grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}") as channel:
    answer = channel.unary_unary("/grpc.health.v1.Health/Check")(raw, timeout=float(sys.argv[3]))
sys.exit(answer != bytes([8, 1]))
"""
_TCP = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 3)"


def needed_rights() -> None:
    """Skip the test where namespaces cannot be made."""
    tools = all(shutil.which(tool) for tool in ("unshare", "nsenter", "setpriv", "ip"))
    if os.geteuid() != 0 or not tools or subprocess.run(["unshare", "-mn", "true"], check=False).returncode:
        pytest.skip("needs root, and unshare, nsenter, setpriv and ip")


def _first_child(pid: int) -> int:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            return int(children[0])
        time.sleep(0.02)
    raise AssertionError("the namespaces were not made")


class Network:
    """A loopback that pods share, so that their Services are addresses of it."""

    def __init__(self) -> None:
        command = f"ip link set lo up && exec {shlex.join([sys.executable, '-c', _PAUSE])}"
        self._outer = subprocess.Popen(["unshare", "--net", "--fork", "--kill-child", "sh", "-ec", command])
        self.pid = _first_child(self._outer.pid)

    def close(self) -> None:
        self._outer.kill()
        self._outer.wait()


class Pod:
    """The first pod of a workload; ``secrets`` maps name and key to a value."""

    def __init__(
        self,
        network: Network,
        folder: Path,
        found: list[Manifest],
        workload: Manifest,
        secrets: Mapping[tuple[str, str], str],
    ) -> None:
        self.spec: dict[str, Any] = workload["spec"]["template"]["spec"]
        self._folder, self._secrets, self._network = folder, secrets, network
        self._user = USER if _is_readable_by(USER) else os.geteuid()
        folder.mkdir(parents=True)
        self._volumes = {
            claim["metadata"]["name"]: {} for claim in workload["spec"].get("volumeClaimTemplates", [])
        }
        self._volumes |= {volume["name"]: volume for volume in self.spec["volumes"]}
        for name, volume in self._volumes.items():
            self._fill(name, volume, found)
        services = [one["metadata"]["name"] for one in found if one["kind"] == "Service"]
        (folder / "hosts").write_text(f"127.0.0.1 localhost {' '.join(services)}\n")
        # The image: the demo's LLMs next to deploy.yaml.
        image = folder / "image"
        (image / "examples").mkdir(parents=True)
        (image / "deploy.yaml").touch()
        inside = ["nsenter", "--target", str(network.pid), "--net"]
        apart = ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child"]
        self._outer = subprocess.Popen([*inside, *apart, "sh", "-ec", self._setup(image)])
        self.pid = _first_child(self._outer.pid)
        ready = folder / "ready"
        end = time.monotonic() + 30
        while not ready.exists():
            assert self._outer.poll() is None, "the pod's mounts failed"
            assert time.monotonic() < end
            time.sleep(0.02)

    def _fill(self, name: str, volume: dict[str, Any], found: list[Manifest]) -> None:
        place = self._folder / "volumes" / name
        place.mkdir(parents=True)
        if "configMap" in volume:
            (place / "deploy.yaml").write_text(deploy_file(found), "utf-8")
        for item in volume.get("secret", {}).get("items", []):
            (place / item["path"]).write_text(self._secrets[volume["secret"]["secretName"], item["key"]])
        for path in (place, *place.iterdir()):
            os.chown(path, self._user, self._user)

    def _mounts(self) -> dict[str, tuple[Path, bool]]:
        """Path in the pod -> folder or file here, and whether it is read-only."""
        found = {}
        for container in [*self.spec.get("initContainers", []), *self.spec["containers"]]:
            for mount in container["volumeMounts"]:
                source = self._folder / "volumes" / mount["name"] / mount.get("subPath", "")
                found[mount["mountPath"]] = source, mount.get("readOnly", False)
        return found

    def _setup(self, image: Path) -> str:
        """Mount everything, then make the rest read-only; /tmp last, as sources may lie there."""
        lines = ["mount --make-rprivate /"]
        lines += [f"mount --bind {self._folder / 'hosts'} /etc/hosts"]
        lines += ["mount -t tmpfs none /srv", "mkdir -p /srv/quorum /srv/keep"]
        lines += [
            f"mount --bind {image} /srv/quorum",
            f"mount --bind {ROOT / 'examples'} /srv/quorum/examples",
        ]
        mounts = self._mounts()
        for path, (source, read_only) in sorted(mounts.items(), key=lambda one: one[0] == "/tmp"):
            if path == "/tmp":
                lines += [f"mount --bind {self._folder} /srv/keep"]
                keep_root = ROOT.is_relative_to("/tmp")
                lines += ["mkdir /srv/checkout", f"mount --bind {ROOT} /srv/checkout"] * keep_root
                lines += [f"mount --bind {source} /tmp"]
                lines += [f"mkdir -p {ROOT}", f"mount --bind /srv/checkout {ROOT}"] * keep_root
                lines += [f"mount -o remount,ro,bind {ROOT}"] * keep_root
                continue
            if path.startswith("/srv/quorum/"):
                made = image / Path(path).relative_to("/srv/quorum")
                lines += [f"{'touch' if source.is_file() else 'mkdir -p'} {made}"]
            if path == "/dev/shm":
                lines += ["mount -t tmpfs -o mode=1777,size=1g shm /dev/shm"]
                continue
            lines += [f"mount --bind {source} {path}"]
            lines += [f"mount -o remount,ro,bind {path}"] * read_only
        lines += [
            "mount -t proc proc /proc",
            "mount -o remount,ro,bind /srv/quorum",
            "mount -o remount,ro,bind /",
        ]
        lines += ["touch /srv/keep/ready", "umount /srv/keep"]
        return "\n".join([*lines, f"exec {shlex.join([sys.executable, '-c', _PAUSE])}"])

    def command(self, container: dict[str, Any], words: Sequence[str] | None = None) -> list[str]:
        """The command of a container, or another one in it, as a command of this machine."""
        variables = dict(IMAGE)
        for one in container["env"]:
            secret = one.get("valueFrom", {}).get("secretKeyRef")
            variables[one["name"]] = self._secrets[secret["name"], secret["key"]] if secret else one["value"]
        inside = [*_WITHOUT_RIGHTS, *(_as(self._user) if self._user != os.geteuid() else ())]
        inside += ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
        program = words or [*container["command"], *container.get("args", [])]
        script = f"cd {container['workingDir']} && exec {shlex.join([*inside, *program])}"
        return ["nsenter", "--target", str(self.pid), "--all", "sh", "-ec", script]

    def run(
        self, container: dict[str, Any], words: Sequence[str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of a container to its end."""
        return subprocess.run(
            self.command(container, words), capture_output=True, text=True, check=False, timeout=300
        )

    def start(self, container: dict[str, Any]) -> subprocess.Popen[bytes]:
        """Start a container; what it prints is in ``log``."""
        with (self._folder / "log").open("wb") as log:
            return subprocess.Popen(self.command(container), stdout=log, stderr=log)

    @property
    def log(self) -> str:
        """What the started container printed."""
        return (self._folder / "log").read_text("utf-8", "replace")

    def probe(self, container: dict[str, Any], name: str) -> bool:
        """Do a probe once, as a kubelet would."""
        probe = container[name]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        wait_s = str(probe["timeoutSeconds"])
        if page := probe.get("httpGet"):
            scheme = page.get("scheme", "HTTP").lower()
            words = [_HTTP, f"{scheme}://127.0.0.1:{ports[page['port']]}{page['path']}", wait_s]
        elif check := probe.get("grpc"):
            words = [_GRPC, str(check["port"]), check.get("service", ""), wait_s]
        else:
            words = [_TCP, str(ports[probe["tcpSocket"]["port"]])]
        inside = ["nsenter", "--target", str(self._network.pid), "--net", sys.executable, "-c", *words]
        return subprocess.run(inside, check=False, stderr=subprocess.DEVNULL).returncode == 0

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        """End a container as a kubelet does; its exit code, within its time."""
        os.kill(_leaf(process.pid), signal.SIGTERM)
        return process.wait(self.spec["terminationGracePeriodSeconds"])

    def close(self) -> None:
        """Kill what is left."""
        self._outer.kill()
        self._outer.wait()


def _leaf(pid: int) -> int:
    """The program that nsenter runs as its child."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    name = Path(f"/proc/{pid}/comm").read_text().strip()
    return _leaf(int(children[0])) if name == "nsenter" and children else pid


def _is_readable_by(user: int) -> bool:
    command = [*_WITHOUT_RIGHTS, *_as(user), "env", sys.executable, "-c", "import json"]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0


def _as(user: int) -> list[str]:
    return [f"--reuid={user}", f"--regid={user}", "--clear-groups"]

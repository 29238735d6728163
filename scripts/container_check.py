#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prove the Dockerfile's ``cpu`` target without a Docker engine: its steps in a Debian root, then its server.

Needs root on a Debian with debootstrap, unshare, nsenter and ip. It makes the base image by debootstrap, runs
every FROM, COPY, RUN, ENV, WORKDIR and USER of the target's stages as a builder would, .dockerignore and all,
starts CMD as process 1 of process, network and mount namespaces of its own with the target's user and
environment. Without a key it must refuse to start; with one the check waits for HEALTHCHECK, asks a question
from inside and from outside, with the key and without, looks which ports are open, and stops it.

    scripts/container_check.py      # prints each step, then a summary as JSON; exit code 1 if a check fails
    scripts/container_check.py --pip-conf FILE --bind /my/wheels     # with a package index of your own
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from image_steps import ROOT, Builder, Image, chain, read_stages, say

SUITE = {"debian:12": "bookworm"}
START_S = 180
SHM = "1g"  # shm_size of compose.yaml
ADDRESS = "10.255.0.2"  # in addition to 127.0.0.1, as Docker gives a container
KEY_VARIABLE, KEY = "QUORUM_INFERENCE_KEY", secrets.token_hex(24)
DOOR, INSIDE = 8001, (8000, 8002)  # ports that others reach, and those that they must not
QUESTION = shlex.split(
    "quorum ask 'Velmora trail running shoes, navy, for men' --attributes color,gender --json"
)


class Container:
    """CMD as process 1 of namespaces of its own, with a fresh /dev/shm and only a loopback network."""

    def __init__(self, image: Image, variables: Mapping[str, str], errors: IO[str] | None = None) -> None:
        self.image = image
        root = image.root
        mounts = f"mount -t proc proc {root}/proc && mount --bind /dev {root}/dev"
        shm = f"mount -t tmpfs -o size={SHM},mode=1777 shm {root}/dev/shm"
        start = shlex.join(image.inside(image.command, image.workdir, variables))
        script = (
            f"ip link set lo up && ip address add {ADDRESS}/32 dev lo && {mounts} && {shm} && exec {start}"
        )
        flags = ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]
        self.outer = subprocess.Popen(["unshare", *flags, "sh", "-ec", script], stderr=errors)
        self.pid = self._first_child()

    def _first_child(self) -> int:
        for _ in range(100):
            children = Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()
            if children:
                return int(children[0])
            time.sleep(0.05)
        sys.exit("container_check: the container did not start")

    def run(self, command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside, with these variables of the environment too."""
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--net", "--ipc"]
        return subprocess.run(
            [*enter, *self.image.inside(command, self.image.workdir, variables)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def processes(self) -> dict[str, set[str]]:
        """Real user id -> names of the container's processes."""
        space, users = Path(f"/proc/{self.pid}/ns/pid").readlink(), {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "ns/pid").readlink() == space:
                    uid = re.search(r"Uid:\s+(\d+)", (process / "status").read_text())[1]
                    users.setdefault(uid, set()).add((process / "comm").read_text().strip())
            except OSError:
                continue
        return users


REACHED = """
import json, socket, sys
reached = {}
for port in map(int, sys.argv[2:]):
    with socket.socket() as s:
        reached[port] = s.connect_ex((sys.argv[1], port)) == 0
print(json.dumps(reached))
"""
SHARED = "import os; s = os.statvfs('/dev/shm'); print((s.f_blocks - s.f_bfree) * s.f_bsize)"


def refuses(image: Image) -> bool:
    """Whether the container ends by itself, and names the key, when nothing says who may ask it."""
    with tempfile.TemporaryFile("w+") as errors:
        container = Container(image, {}, errors)
        try:
            failed = container.outer.wait(timeout=START_S) != 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            if container.outer.poll() is None:
                container.outer.kill()
                container.outer.wait()
        errors.seek(0)
        return failed and KEY_VARIABLE in errors.read()


def prove(image: Image) -> dict[str, object]:
    refused = refuses(image)
    start = time.monotonic()
    container = Container(image, {KEY_VARIABLE: KEY})
    try:
        while (health := container.run(image.health)).returncode:
            if container.outer.poll() is not None or time.monotonic() - start > START_S:
                sys.exit(f"container_check: never healthy; last output:\n{health.stdout}{health.stderr}")
            time.sleep(1)
        healthy = time.monotonic() - start
        say(f"healthy after {healthy:.0f} s")
        asked = container.run(QUESTION)
        if asked.returncode:
            sys.exit(f"container_check: no answer: {asked.stderr}")
        answer = json.loads(asked.stdout)
        outside = [*QUESTION, "--url", f"{ADDRESS}:{DOOR}"]
        let_in = {"key": container.run(outside, **{KEY_VARIABLE: KEY}), "no key": container.run(outside)}
        found = container.run(["python3", "-c", REACHED, ADDRESS, str(DOOR), *map(str, INSIDE)])
        ports = json.loads(found.stdout)
        shared = int(container.run(["python3", "-c", SHARED]).stdout)
        users = container.processes()
        say("SIGTERM")
        stopping = time.monotonic()
        os.kill(container.pid, signal.SIGTERM)
        code = container.outer.wait(timeout=90)
        return {
            "healthy_after_s": round(healthy, 1),
            "answer": answer,
            "refused_without_key": refused,
            "answered_outside": {name: asked.returncode == 0 for name, asked in let_in.items()},
            "reached_from_outside": ports,
            "users": {uid: sorted(names) for uid, names in users.items()},
            "shared_memory_bytes": shared,
            "stop_s": round(time.monotonic() - stopping, 1),
            "exit_code": code,
        }
    finally:
        if container.outer.poll() is None:
            container.outer.kill()


def judge(results: dict) -> list[str]:
    """The checks that the container failed."""
    wrong = []
    if any(uid == "0" for uid in results["users"]):
        wrong.append(f"runs as root: {results['users']}")
    if not results["refused_without_key"]:
        wrong.append("starts although nothing says who may ask it")
    if results["answered_outside"] != {"key": True, "no key": False}:
        wrong.append(f"answered outside: {results['answered_outside']}")
    ports = results["reached_from_outside"]
    wrong += [f"port {p} from outside: {ok}" for p, ok in ports.items() if ok is not (p == str(DOOR))]
    if results["exit_code"] != 0:
        wrong.append(f"SIGTERM ended it with exit code {results['exit_code']}")
    return wrong


def size_mib(path: Path) -> int:
    done = subprocess.run(["du", "-sk", str(path)], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0]) // 1024


def make_base(image: str, base: Path, mirror: str) -> None:
    suite = next((suite for name, suite in SUITE.items() if image.startswith(name)), None)
    if suite is None:
        sys.exit(f"container_check: no suite is known for {image}")
    if not (base / "etc" / "debian_version").is_file():
        say(f"debootstrap {suite} in place of {image}")
        shutil.rmtree(base, ignore_errors=True)
        command = ["debootstrap", "--variant=minbase", suite, str(base), mirror]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--work", type=Path, default=ROOT / ".cache" / "container", help="folder for the roots"
    )
    parser.add_argument("--mirror", default="http://deb.debian.org/debian")
    parser.add_argument("--pip-conf", type=Path, help="mounted where the Dockerfile mounts its secret `pip`")
    parser.add_argument("--bind", action="append", default=[], help="folder that --pip-conf names")
    parser.add_argument("--keep", action="store_true", help="keep the roots of the stages")
    args = parser.parse_args()
    if os.geteuid() != 0 or not all(map(shutil.which, ("debootstrap", "unshare", "nsenter", "ip"))):
        sys.exit("container_check: run it as root, after `apt-get install debootstrap iproute2 util-linux`")
    args.work.mkdir(parents=True, exist_ok=True)
    stages = chain(read_stages((ROOT / "Dockerfile").read_text()), "cpu")
    base = args.work / "base"
    make_base(stages[0].base, base, args.mirror)
    builder = Builder(base, args.work, args.pip_conf, args.bind)
    image = [builder.build(stage) for stage in stages][-1]
    sizes = {
        "base": size_mib(base),
        "image": size_mib(image.root),
        "venv": size_mib(image.root / "opt/quorum"),
    }
    results = prove(image)
    wrong = judge(results)
    release = (base / "etc/debian_version").read_text().strip()
    print(json.dumps({"debian": release, "size_mib": sizes, **results, "wrong": wrong}, indent=2))
    if not args.keep:
        for stage in stages:
            shutil.rmtree(args.work / stage.name)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

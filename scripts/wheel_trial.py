#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Try quorum as a new user does, from wheels, outside of any checkout: three commands to an answer.

    scripts/wheel_trial.py WHEELS             # in an empty virtual environment of this machine
    scripts/wheel_trial.py WHEELS --debian    # in a fresh Debian, by debootstrap; needs root

WHEELS is a folder that ``scripts/build_dists.py`` filled; everything else comes from the index that pip is
configured with. The commands are `pip install` of the wheel with its extra `cpu`, `quorum init --demo` and
`quorum up`; `quorum ask` then asks a question. Where parts are missing, `quorum validate` must name them all.
Prints each step, then a summary as JSON; exit code 1 if a step fails.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from container_check import make_base
from image_steps import Image, run_in

ROOT = Path(__file__).resolve().parent.parent
SERVE_S = 180
TITLE = "Velmora men's leather sneakers black 42"
ASKED = "color,gender"
SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"
PLACE = "/srv/trial"  # in the Debian root


def say(text: str) -> None:
    print(f"wheel_trial: {text}", flush=True)


class Here:
    """A folder of this machine, and commands in it with an environment that knows no checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = ("HOME", "LANG", "SSL_CERT_FILE", "TMPDIR")
        own = {name: value for name, value in os.environ.items() if name in kept or name.startswith("PIP_")}
        self.environment = own | {"PATH": f"{folder}/venv/bin:{SYSTEM}", "COLUMNS": "200"}

    def command(self, line: str) -> list[str]:
        return ["/bin/sh", "-ec", f"cd {shlex.quote(str(self.folder))} && exec {line}"]

    def start(self, line: str, output: Path) -> subprocess.Popen[str]:
        with output.open("w") as file:
            return subprocess.Popen(
                self.command(line), env=self.environment, stdout=file, stderr=file, text=True
            )

    def run(self, line: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; anything but the exit code ends the trial, None allows all."""
        say(f"$ {line}")
        done = subprocess.run(
            self.command(line), env=self.environment, capture_output=True, text=True, check=False
        )
        if code is not None and done.returncode != code:
            sys.exit(f"wheel_trial: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done


class Debian(Here):
    """The same in a root folder with nothing but Debian."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / PLACE.lstrip("/"))
        self.root = root
        inside = {"PATH": f"{PLACE}/venv/bin:{SYSTEM}", "HOME": "/root", "LANG": "C.UTF-8"}
        self.inside = inside | {"COLUMNS": "200"}

    def command(self, line: str) -> list[str]:
        variables = [f"{name}={value}" for name, value in self.inside.items()]
        become = ["chroot", str(self.root), "env", "-i", *variables, "/bin/sh", "-ec"]
        mounts = " && ".join(f"mount --bind /{name} {self.root}/{name}" for name in ("proc", "dev", "sys"))
        inside = shlex.join([*become, f"cd {PLACE} && exec {line}"])
        return ["unshare", "--mount", "sh", "-ec", f"{mounts} && exec {inside}"]


def install(here: Here, python: str, pip_install: str) -> float:
    """Make the environment and install the wheels; returns the seconds that took."""
    start = time.monotonic()
    here.run(f"{python} -m venv venv")
    here.run(f"venv/bin/python -m pip install -q --disable-pip-version-check {pip_install}")
    return time.monotonic() - start


def without_parts(here: Here) -> dict[str, list[str]]:
    """What `quorum validate` names without the server and a package, and after the commands that it names."""
    here.run("venv/bin/python -m pip uninstall -q -y nvidia-pytriton openvino-genai")
    named = warnings(here)
    here.run("quorum up", code=1)
    for command in re.findall(r"run `(pip install [^`]+)`", " ".join(named)):
        here.run(f"venv/bin/python -m {command} -q --disable-pip-version-check")
    return {"named_as_missing": named, "still_missing": warnings(here)}


def warnings(here: Here) -> list[str]:
    lines = here.run("quorum validate").stderr.splitlines()
    return [line for line in lines if line.startswith("warning: ")]


def ask(here: Here) -> dict[str, object]:
    """Serve and ask; returns the answer and the seconds until it was there."""
    log = here.folder / "up.log"
    start = time.monotonic()
    say("$ quorum up &")
    server = here.start("quorum up", log)
    try:
        while server.poll() is None and time.monotonic() - start < SERVE_S:
            if here.run("quorum status", code=None).returncode == 0:
                break
            time.sleep(1)
        else:
            sys.exit(f"wheel_trial: no channel answers:\n{log.read_text()}")
        answer = json.loads(here.run(f"quorum ask {shlex.quote(TITLE)} -a {ASKED} --json").stdout)
        seconds = time.monotonic() - start
        server.send_signal(signal.SIGINT)
        code = server.wait(timeout=90)
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()
    return {"answer": answer, "answered_after_s": round(seconds, 1), "exit_code": code}


def try_wheels(here: Here, wheels: str, python: str, args: argparse.Namespace) -> dict[str, object]:
    """All steps, in the folder of ``here``."""
    # By its file: the index may have another project of this name.
    wheel = f"{wheels}/{wheel_of(args.wheels).name}[cpu]"
    seconds = install(here, python, f"--find-links {wheels} {args.pip} {shlex.quote(wheel)}")
    versions = here.run("quorum --version").stdout.splitlines()
    started = here.run("quorum init --demo").stderr
    results = ask(here)
    where = here.run("venv/bin/python -c 'import quorum; print(quorum.__file__)'").stdout.strip()
    parts = without_parts(here)
    kept = here.run("quorum --version").stdout.splitlines()
    return {
        "install_s": round(seconds),
        "versions": versions,
        "module": where,
        "init": started.splitlines(),
        **results,
        **parts,
        "versions_kept": kept == versions,
    }


def wheel_of(wheels: Path) -> Path:
    """The wheel of quorum in a folder."""
    found = sorted(wheels.glob("quorum-*.whl"))
    if len(found) != 1:
        sys.exit(f"wheel_trial: not one wheel of quorum in {wheels}: run scripts/build_dists.py FOLDER")
    return found[0]


def judge(results: dict) -> list[str]:
    """The checks that the trial failed."""
    wrong = []
    if (
        not results["module"].endswith("site-packages/quorum/__init__.py")
        or "/venv/" not in results["module"]
    ):
        wrong.append(f"not from the wheels: {results['module']}")
    values = {name: answer["value"] for name, answer in results["answer"]["attributes"].items()}
    if values.keys() != {*ASKED.split(",")} or None in values.values():
        wrong.append(f"answered {values}")
    if any("missing here" in line for line in results["init"]):
        wrong.append(f"the extra leaves something out: {results['init']}")
    if results["exit_code"] != 0:
        wrong.append(f"`quorum up` ended with exit code {results['exit_code']}")
    named = " ".join(results["named_as_missing"])
    if not ("pip install 'quorum[triton]'" in named and "pip install 'quorum[openvino]'" in named):
        wrong.append(f"missing parts are not all named: {named}")
    if results["still_missing"] or not results["versions_kept"]:
        wrong.append("the commands that are named do not bring the parts back as they were")
    return wrong


def in_debian(args: argparse.Namespace) -> dict[str, object]:
    if os.geteuid() != 0 or not all(map(shutil.which, ("debootstrap", "unshare"))):
        sys.exit("wheel_trial: run it as root, after `apt-get install debootstrap`")
    args.work.mkdir(parents=True, exist_ok=True)
    base = args.work / "base"
    make_base("debian:12", base, args.mirror)
    root = args.work / "trial"
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(root)], check=True)
    here = Debian(root)
    shutil.copytree(args.wheels, here.folder / "wheels")
    say("$ apt-get install python3-venv libpython3.11")
    packages = "ca-certificates libpython3.11 python3-venv"
    quiet = "apt-get update -q && apt-get install -q -y --no-install-recommends"
    binds = ["/etc/resolv.conf", *(["/etc/ssl/certs/ca-certificates.crt"] if args.pip_conf else [])]
    binds += [f"{args.pip_conf}:/etc/pip.conf", *args.bind] if args.pip_conf else []
    run_in(Image(root), ["/bin/sh", "-c", f"{quiet} {packages} > /dev/null"], ["/etc/resolv.conf"])
    for bind in binds:
        source, _, target = bind.partition(":")
        place = root / (target or source).lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if Path(source).is_dir() else shutil.copyfile
        copy(source, place)
    try:
        return try_wheels(here, f"{PLACE}/wheels", "python3", args)
    finally:
        if not args.keep:
            shutil.rmtree(root, ignore_errors=True)


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheels", type=Path, help="folder with the three wheels")
    parser.add_argument("--debian", action="store_true", help="in a fresh Debian root")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the environment")
    parser.add_argument("--pip", default="", help="more arguments of pip install, such as '-c FILE'")
    parser.add_argument("--work", type=Path, default=ROOT / ".cache" / "container", help="folder for roots")
    parser.add_argument("--mirror", default="http://deb.debian.org/debian")
    parser.add_argument("--pip-conf", type=Path, help="configuration of pip for the Debian root")
    parser.add_argument("--bind", action="append", default=[], help="file or folder that --pip-conf names")
    parser.add_argument("--keep", action="store_true", help="keep the Debian root")
    args = parser.parse_args()
    args.wheels = args.wheels.resolve()
    wheel_of(args.wheels)
    if args.debian:
        results = in_debian(args)
    else:
        with tempfile.TemporaryDirectory(prefix="quorum-trial-") as folder:
            results = try_wheels(Here(Path(folder)), str(args.wheels), args.python, args)
    wrong = judge(results)
    print(json.dumps({**results, "wrong": wrong}, indent=2, ensure_ascii=False))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

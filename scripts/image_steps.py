# SPDX-License-Identifier: Apache-2.0
"""Run the steps of a Dockerfile's stages in root folders, as a builder would, without a Docker engine."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def say(text: str) -> None:
    print(f"container_check: {text}", flush=True)


@dataclass
class Stage:
    """One FROM with its instructions."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Image:
    """A root folder with the settings of its containers."""

    root: Path
    env: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    workdir: str = "/"
    user: str = "0:0"
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def inside(self, command: list[str], home: str, more: Mapping[str, str]) -> list[str]:
        """The command line that runs a command in this root as its user, with its environment and more."""
        env = [f"{key}={value}" for key, value in {**self.env, "HOME": home, **more}.items()]
        run = f"cd {shlex.quote(self.workdir)} && exec {shlex.join(command)}"
        become = ["chroot", f"--userspec={self.user}", str(self.root), "env", "-i", *env]
        return [*become, "/bin/sh", "-c", run]


def read_stages(text: str) -> list[Stage]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#") and line.strip()]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines()
    stages: list[Stage] = []
    for line in joined:
        keyword, _, rest = line.strip().partition(" ")
        if keyword == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()
            stages.append(Stage(base, name))
        else:
            stages[-1].steps.append((keyword, rest.strip()))
    return stages


def chain(stages: list[Stage], target: str) -> list[Stage]:
    """The target's stage after those that it is built from, in order."""
    by_name = {stage.name: stage for stage in stages}
    order: list[str] = []

    def add(name: str) -> None:
        stage = by_name[name]
        sources = [stage.base, *re.findall(r"--from=(\S+)", " ".join(rest for _, rest in stage.steps))]
        for source in sources:
            if source in by_name and source not in order:
                add(source)
        order.append(name)

    add(target)
    return [by_name[name] for name in order]


def context() -> list[str]:
    """Files that .dockerignore keeps: the last pattern that matches a path, or a folder of it, decides."""
    patterns = [p.strip() for p in (ROOT / ".dockerignore").read_text().splitlines()]
    patterns = [p for p in patterns if p and not p.startswith("#")]
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    return [path for path in listed if (ROOT / path).is_file() and not is_ignored(path, patterns)]


def is_ignored(path: str, patterns: list[str]) -> bool:
    ignored, parts = False, path.split("/")
    heads = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    for pattern in patterns:
        plain = pattern.removeprefix("!")
        anywhere = plain.removeprefix("**/")
        tails = parts if anywhere != plain else heads
        if any(fnmatch.fnmatchcase(part, anywhere) for part in tails):
            ignored = not pattern.startswith("!")
    return ignored


def run_in(image: Image, command: list[str], binds: list[str]) -> None:
    """Run a command inside a root, with /proc, /dev and the given folders of this machine."""
    mounts = [f"mount --bind /{d} {image.root}/{d}" for d in ("proc", "dev", "sys")]
    for bind in binds:
        source, _, target = bind.partition(":")
        place = f"{image.root}/{(target or source).lstrip('/')}"
        make = f"mkdir -p {place}" if Path(source).is_dir() else f"install -D /dev/null {place}"
        mounts.append(f"{make} && mount --bind -o ro {source} {place}")
    script = " && ".join([*mounts, f"exec {shlex.join(image.inside(command, '/root', {}))}"])
    subprocess.run(["unshare", "--mount", "--pid", "--fork", "sh", "-ec", script], check=True)


def owner_of(image: Image, text: str) -> tuple[int, int]:
    def number(part: str, file: str) -> int:
        if part.isdecimal():
            return int(part)
        for line in (image.root / "etc" / file).read_text().splitlines():
            if line.split(":")[0] == part:
                return int(line.split(":")[2])
        raise KeyError(part)

    user, _, group = text.partition(":")
    return number(user, "passwd"), number(group or user, "group")


class Builder:
    """Runs the instructions of stages.

    Args:
        base: The root used as the first base image.
        work: Folder for the roots.
        pip_conf: Mounted where a RUN mounts the secret `pip`.
        binds: Folders of this machine that ``pip_conf`` names.
    """

    def __init__(self, base: Path, work: Path, pip_conf: Path | None, binds: list[str]) -> None:
        self.base, self.work, self.pip_conf, self.binds = base, work, pip_conf, binds
        self.images: dict[str, Image] = {}
        self.sent = context()

    def build(self, stage: Stage) -> Image:
        root = self.work / stage.name
        shutil.rmtree(root, ignore_errors=True)
        origin = self.images.get(stage.base) or Image(self.base)
        subprocess.run(["cp", "-a", "--reflink=auto", str(origin.root), str(root)], check=True)
        image = self.images[stage.name] = Image(root, dict(origin.env), origin.workdir, origin.user)
        for keyword, rest in stage.steps:
            say(f"{stage.name}: {keyword} {rest[:110]}")
            self.step(image, keyword, rest)
        return image

    def step(self, image: Image, keyword: str, rest: str) -> None:
        if keyword == "RUN":
            self.run(image, rest)
        elif keyword == "COPY":
            self.copy(image, rest)
        elif keyword == "ENV":
            for word in shlex.split(rest):
                key, _, value = word.partition("=")
                image.env[key] = value.replace("$PATH", image.env["PATH"])
        elif keyword == "WORKDIR":
            image.workdir = rest
            (image.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif keyword == "USER":
            image.user = rest
        elif keyword == "CMD":
            image.command = json.loads(rest)
        elif keyword == "HEALTHCHECK":
            image.health = json.loads(rest.partition("CMD ")[2])
        elif keyword not in ("ARG", "LABEL", "EXPOSE", "VOLUME", "STOPSIGNAL"):
            sys.exit(f"container_check: unknown instruction {keyword}; add it to scripts/image_steps.py")

    def run(self, image: Image, rest: str) -> None:
        mounts, command = re.fullmatch(r"((?:--\S+\s+)*)(.*)", rest, re.DOTALL).groups()
        binds = ["/etc/resolv.conf"]
        secret = re.search(r"type=secret,\S*target=(\S+)", mounts)
        if secret and self.pip_conf:
            binds += [f"{self.pip_conf}:{secret[1]}", "/etc/ssl/certs/ca-certificates.crt", *self.binds]
        run_in(image, ["/bin/sh", "-c", command], binds)

    def copy(self, image: Image, rest: str) -> None:
        words = shlex.split(rest)
        options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
        *sources, target = [word for word in words if not word.startswith("--")]
        place = image.root / str(Path(image.workdir) / target).lstrip("/")
        for source in sources:
            if "from" in options:
                origin = self.images[options["from"]].root / source.lstrip("/")
                shutil.copytree(origin, place, symlinks=True, dirs_exist_ok=True)
                continue
            files = [file for file in self.sent if file == source or file.startswith(f"{source}/")]
            if not files:
                sys.exit(f"container_check: COPY {source}: .dockerignore excludes all of it")
            for file in files:
                inner = file[len(source) :].lstrip("/") or (Path(file).name if target.endswith("/") else "")
                copy_file(ROOT / file, place / inner, owner_of(image, options.get("chown", "0:0")))


def copy_file(source: Path, target: Path, owner: tuple[int, int]) -> None:
    for folder in [parent for parent in reversed(target.parents) if not parent.exists()]:
        folder.mkdir()
        os.chown(folder, *owner)
    shutil.copy2(source, target)
    os.chown(target, *owner)

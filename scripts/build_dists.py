#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Build sdists and wheels of quorum, quorum-client and quorum-demo: ``build_dists.py [FOLDER]``.

FOLDER is dist/ unless named. The same sources give the same files, byte for byte, whenever they are built:
times are those of the last commit (SOURCE_DATE_EPOCH), owners and permissions are left out, and each wheel is
built from its sdist by the setuptools of requirements/run.txt. Needs ``.venv`` (``make setup``). Prints the
SHA-256 of each file, as ``sha256sum`` does.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECTS = ("client", "ensemble_backend", "examples/demo")
VENV = ROOT / ".venv" / "bin"


def commit_time() -> str:
    """Seconds from 1970 to the last commit, or what SOURCE_DATE_EPOCH says."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return given
    command = ["git", "log", "-1", "--format=%ct"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def sources(project: str, folder: Path) -> Path:
    """Copy the files of a project that git has or would take, and nothing that an earlier build left."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", project],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder / project


def level(sdist: Path, seconds: int) -> None:
    """Write an sdist again without what differs between machines: times, owners, permissions, order."""
    packed = io.BytesIO()
    with (
        tarfile.open(sdist) as found,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(found.getmembers(), key=lambda one: one.name):
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.size, plain.mtime = member.type, member.size, seconds
            plain.mode = 0o755 if member.isdir() else 0o644
            new.addfile(plain, found.extractfile(member) if member.isfile() else None)
    # Without a name and a time in the header.
    sdist.write_bytes(gzip.compress(packed.getvalue(), mtime=0))


def build(source: Path, kind: str, out: Path, seconds: str) -> Path:
    """Build one file; returns it."""
    before = {*out.iterdir()}
    command = [VENV / "uv", "build", "-q", "--no-build-isolation", "--python", VENV / "python"]
    # umask: the wheel records permissions of the files that are unpacked from the sdist.
    subprocess.run(
        [*command, f"--{kind}", "--no-create-gitignore", "--out-dir", out, source],
        check=True,
        umask=0o022,
        env={**os.environ, "SOURCE_DATE_EPOCH": seconds, "PYTHONHASHSEED": "0"},
    )
    (made,) = {*out.iterdir()} - before
    return made


def main(out: Path, projects: Sequence[str] = PROJECTS) -> None:
    if not (VENV / "uv").exists():
        sys.exit("build_dists: .venv has no uv; run `make setup`")
    seconds = commit_time()
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        sys.exit(f"build_dists: {out} is not empty; name another folder, or empty it")
    for project in projects:
        with tempfile.TemporaryDirectory() as copy, tempfile.TemporaryDirectory() as folder:
            sdist = build(sources(project, Path(copy)), "sdist", Path(folder), seconds)
            level(sdist, int(seconds))
            wheel = build(sdist, "wheel", out, seconds)
            (out / sdist.name).write_bytes(sdist.read_bytes())
        for file in (out / sdist.name, wheel):
            print(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "dist", metavar="FOLDER")
    main(parser.parse_args().folder)

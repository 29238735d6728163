# SPDX-License-Identifier: Apache-2.0
"""Certificates made for a test by openssl."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NO_OPENSSL = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine")
_NEW = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_certificates(folder: Path) -> Path:
    """An authority, a server of 127.0.0.1, a client; and an authority that has nothing to do with them."""
    for name in ("ca", "stranger"):
        openssl(folder, "req", "-x509", *_NEW, "-keyout", f"{name}.key", "-out", f"{name}.pem",
                "-days", "2", "-subj", f"/CN={name}")  # fmt: skip
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name in ("server", "client"):
        sign(folder, name)
    return folder


def sign(folder: Path, name: str) -> None:
    """A certificate of the authority, as NAME.pem with NAME.key; it replaces an earlier one."""
    openssl(
        folder, "req", "-new", *_NEW, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"
    )
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", f"{name}.pem")  # fmt: skip

# SPDX-License-Identifier: Apache-2.0
"""A tritonserver whose Python models see a stand-in for TensorRT-LLM, and with stand-ins for GPU backends.

The stub takes its packages from the ``python3`` on PATH only. So the server gets an interpreter
environment made for it alone that adds the stand-in's folder to the packages of this one.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

from quorum.server.install import Install, find_install

BACKENDS = ("tensorrtllm", "onnxruntime")


@dataclass(frozen=True)
class StandInInstall(Install):
    """A tritonserver whose Python models find the stand-in, and whose C++ backends are stand-ins.

    Attributes:
        interpreter: Environment made for it.
        packages: Folder of the stand-in: the package ``tensorrt_llm`` and :data:`BACKENDS`.
    """

    interpreter: Path
    packages: Path

    def environment(self) -> dict[str, str]:
        """Put the interpreter made for it first on PATH."""
        environment = super().environment()
        environment["PATH"] = os.pathsep.join([str(self.interpreter / "bin"), environment["PATH"]])
        return environment

    def prepare_backends(self, scratch: Path) -> Path:
        """Add the stand-ins of the C++ backends."""
        backends = super().prepare_backends(scratch)
        for name in BACKENDS:
            shutil.copytree(self.packages / name, backends / name, dirs_exist_ok=True)
        return backends


def install(folder: Path, packages: Path) -> StandInInstall:
    """Return the server of this machine, with an environment made in ``folder``.

    Args:
        folder: To make.
        packages: See :class:`StandInInstall`.
    """
    venv.create(folder, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    lines = [f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})", str(packages)]
    (site / "standin.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    server = find_install()
    return StandInInstall(
        server.binary, server.backends, server.stub, server.libraries, interpreter=folder, packages=packages
    )

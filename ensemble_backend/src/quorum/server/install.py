# SPDX-License-Identifier: Apache-2.0
"""Find a tritonserver: the one of a Triton container, or the one inside the ``nvidia-pytriton`` wheel."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import quorum
from quorum.extras import how_to_install
from quorum_contract import GATE, MEMBER_BACKEND, RETRIEVER, VOTE
from quorum_contract.errors import QuorumError

_CONTAINER = Path("/opt/tritonserver")
# The wheel does not say which server it holds; a running one does.
_TRITON_OF = {"0.7.0": "2.51.0"}
_OWN_BACKENDS = (GATE, MEMBER_BACKEND, VOTE, RETRIEVER)


class ServerNotFound(QuorumError, RuntimeError):
    """No tritonserver is installed; the message says where was looked and how to get one."""

    code = "TRITONSERVER_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class Install:
    """Paths of a tritonserver's parts.

    Attributes:
        binary: The server program.
        backends: Folder of its backends.
        stub: The Python backend's stub for this interpreter; ``None`` when it is in place already.
        libraries: Folders for the loader path.
    """

    binary: Path
    backends: Path
    stub: Path | None
    libraries: tuple[Path, ...]

    def environment(self) -> dict[str, str]:
        """Build the server's environment, with this interpreter's packages for the Python models.

        NumPy's linear algebra has one thread, unless ``OPENBLAS_NUM_THREADS`` says otherwise: each model is
        a process of its own, and threads of many processes would wait for each other.
        """
        path = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        libraries = [*map(str, self.libraries), os.environ.get("LD_LIBRARY_PATH", "")]
        lists = {"PATH": path, "LD_LIBRARY_PATH": [folder for folder in libraries if folder]}
        joined = {name: os.pathsep.join(folders) for name, folders in lists.items()}
        return {"OPENBLAS_NUM_THREADS": "1"} | os.environ | joined

    def prepare_backends(self, scratch: Path) -> Path:
        """Return a backend directory with the Python backend and quorum's, built in the empty ``scratch``.

        ``scratch`` stays unused when the server has all of them.
        """
        own = Path(quorum.__file__).parent / "backends"
        if all((self.backends / name / "model.py").is_file() for name in _OWN_BACKENDS):
            return self.backends
        # Copies, not links: Triton refuses libraries that lie outside of the backend directory.
        shutil.copytree(self.backends, scratch, dirs_exist_ok=True)
        if self.stub:
            shutil.copy(self.stub, scratch / "python" / self.stub.name)
            (scratch / "python" / self.stub.name).chmod(0o755)
        for name in _OWN_BACKENDS:
            shutil.copytree(own / name, scratch / name, ignore=shutil.ignore_patterns("__pycache__"))
        return scratch


def find_install() -> Install:
    """Find the tritonserver: ``/opt/tritonserver``, else the wheel's for this Python, else ServerNotFound."""
    binary = _CONTAINER / "bin" / "tritonserver"
    if binary.is_file():
        return Install(binary, _CONTAINER / "backends", None, ())
    wheel = importlib.util.find_spec("pytriton")
    if wheel is None or wheel.origin is None:
        raise ServerNotFound(f"no tritonserver: neither {_CONTAINER} nor the wheel nvidia-pytriton; {_fix()}")
    root = Path(wheel.origin).parent
    server = root / "tritonserver"
    stub = server / "python_backend_stubs" / f"3.{sys.version_info.minor}" / "triton_python_backend_stub"
    if not stub.is_file():
        have = ", ".join(sorted(p.name for p in stub.parent.parent.iterdir()))
        raise ServerNotFound(
            f"nvidia-pytriton has no stub for Python 3.{sys.version_info.minor} (it has {have})"
        )
    # Its Python stub is linked against the shared libpython of this interpreter.
    libraries = (root.parent / "nvidia_pytriton.libs", Path(sysconfig.get_config_var("LIBDIR")))
    return Install(server / "bin" / "tritonserver", server / "backends", stub, libraries)


def triton_version() -> str:
    """The version of the tritonserver that is found, as far as its package tells; raises ServerNotFound."""
    if find_install().stub is None:
        file = _CONTAINER / "TRITON_VERSION"
        return file.read_text("ascii").strip() if file.is_file() else "of unknown version"
    wheel = metadata.version("nvidia-pytriton")
    return f"{_TRITON_OF.get(wheel, 'of unknown version')}, of nvidia-pytriton {wheel}"


def _fix() -> str:
    """How to get a server on this machine, or where to serve instead."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return (
            f"the wheel is built for Linux on x86-64, this is {sys.platform} on {platform.machine()}: serve"
            " on such a machine or in a container; commands that need no server work here"
        )
    if sys.version_info >= (3, 13):
        return (
            f"the wheel needs numpy < 2, which Python 3.{sys.version_info.minor} has no build of: make an"
            " environment of Python 3.11 or 3.12, or work inside a Triton container"
        )
    return f"run {how_to_install('triton')}, or work inside a Triton container"

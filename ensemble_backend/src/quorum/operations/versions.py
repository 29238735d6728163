# SPDX-License-Identifier: Apache-2.0
"""Name the versions of quorum and of the parts that it runs on."""

from __future__ import annotations

import platform
import sys
from contextlib import suppress
from importlib import metadata

import quorum
from quorum.server.install import ServerNotFound, triton_version

_PARTS = (
    *("quorum-client", "quorum-demo", "nvidia-pytriton", "tritonclient", "grpcio", "protobuf", "numpy"),
    *("openvino", "openvino-genai", "openvino-tokenizers", "onnxruntime", "torch", "transformers", "peft"),
    *("tensorrt_llm", "usearch", "pyarrow"),
)


def versions() -> dict[str, str]:
    """Part -> its version, for installed parts: quorum, the interpreter, the server, then packages."""
    by_part = {"quorum": quorum.__version__, "python": f"{platform.python_version()} ({sys.executable})"}
    with suppress(ServerNotFound):
        by_part["tritonserver"] = triton_version()
    for name in _PARTS:
        with suppress(metadata.PackageNotFoundError):
            by_part[name] = metadata.version(name)
    return by_part

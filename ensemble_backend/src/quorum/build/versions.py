# SPDX-License-Identifier: Apache-2.0
"""Versions of TensorRT-LLM in Triton containers; all other code refers to this table.

From Triton's compatibility matrix (docs/introduction/compatibility.md of its server repository, 2026-08);
26.07 is the last container listed there. Engines (``trtllm-build``, the C++ backend) were removed upstream
after 1.3.0rc20 (2026-06-30), so containers with 1.2.1 are the last with both engines and the LLM API.
"""

from __future__ import annotations

from dataclasses import dataclass

READ_ON = "2026-11-21"


@dataclass(frozen=True, slots=True)
class Release:
    """One Triton container with TensorRT-LLM.

    Attributes:
        container: Its release, e.g. ``26.07``.
        tensorrt_llm: Version of TensorRT-LLM.
        tensorrt: Version of TensorRT.
        cuda: Version of CUDA.
        driver: Oldest driver for its CUDA, without the compatibility package.
        engines: Whether it can build and serve compiled engines.
    """

    container: str
    tensorrt_llm: str
    tensorrt: str
    cuda: str
    driver: str
    engines: bool

    @property
    def image(self) -> str:
        """Name and tag of the container image."""
        return f"nvcr.io/nvidia/tritonserver:{self.container}-trtllm-python-py3"


RELEASES = tuple(
    Release(container, "1.2.1", "10.14.1.48", "13.1", "590.44", engines=True)
    for container in ("26.04", "26.05", "26.06", "26.07")
)
PINNED = RELEASES[-1]
"""The container that quorum is written for."""

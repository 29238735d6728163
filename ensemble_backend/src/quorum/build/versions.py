# SPDX-License-Identifier: Apache-2.0
"""The Triton container with TensorRT-LLM that quorum is written for; all other code refers to it.

From Triton's compatibility matrix (docs/introduction/compatibility.md of its server repository, 2026-08).
Containers 26.04 to 26.07 hold TensorRT-LLM 1.2.1 with TensorRT 10.14.1.48. Engines (``trtllm-build``, the C++
backend) were removed upstream after 1.3.0rc20 (2026-06-30), so these are the last with both engines and the
LLM API.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Release:
    """One Triton container: its release, CUDA, and the oldest driver for it without compatibility package."""

    container: str
    cuda: str
    driver: str

    @property
    def image(self) -> str:
        """Name and tag of the container image."""
        return f"nvcr.io/nvidia/tritonserver:{self.container}-trtllm-python-py3"


PINNED = Release(container="26.07", cuda="13.1", driver="590.44")

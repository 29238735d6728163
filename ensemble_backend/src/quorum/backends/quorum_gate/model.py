# SPDX-License-Identifier: Apache-2.0
"""Entry point of the Python-based Triton backend `quorum_gate`; see `quorum.serving.gate`."""

from quorum.serving.gate import TritonPythonModel

__all__ = ["TritonPythonModel"]

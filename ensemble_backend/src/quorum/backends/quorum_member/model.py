# SPDX-License-Identifier: Apache-2.0
"""Entry point of the Python-based Triton backend `quorum_member`; see `quorum.serving.member`."""

from quorum.serving.member import TritonPythonModel

__all__ = ["TritonPythonModel"]

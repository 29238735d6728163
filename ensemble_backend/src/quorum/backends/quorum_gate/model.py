# SPDX-License-Identifier: Apache-2.0
"""Entry point of the Python-based Triton backend `quorum_gate`; see `quorum.serving.gate`."""

from quorum.serving.gate import TritonPythonModel
from quorum.serving.parent import end_with_server

__all__ = ["TritonPythonModel"]

end_with_server()

# SPDX-License-Identifier: Apache-2.0
"""Entry point of the Python-based Triton backend `quorum_member`; see `quorum.serving.member`."""

from quorum.serving.member import TritonPythonModel
from quorum.serving.parent import end_with_server

__all__ = ["TritonPythonModel"]

end_with_server()

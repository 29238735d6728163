# SPDX-License-Identifier: Apache-2.0
"""Entry point of the Python-based Triton backend `quorum_retriever`; see `quorum.serving.retriever`."""

from quorum.serving.parent import end_with_server
from quorum.serving.retriever import TritonPythonModel

__all__ = ["TritonPythonModel"]

end_with_server()

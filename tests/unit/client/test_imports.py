# SPDX-License-Identifier: Apache-2.0
"""What ``import quorum_client`` loads."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"grpc", "numpy", "google", "tritonclient", "pandas", "pyarrow"}

CODE = f"""
import sys
from quorum_client import AsyncClient, Client, Extraction, Item, QuorumError, Tls
print(*sorted({HEAVY!r} & set(sys.modules)))
Client("localhost:1").close()
print(*sorted({HEAVY!r} & set(sys.modules)))
"""


def test_grpc_is_loaded_with_the_first_client() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    before, after = done.stdout.split("\n")[:2]
    assert before == ""
    assert "grpc" in after
    assert "pandas" not in after

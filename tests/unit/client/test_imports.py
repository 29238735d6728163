# SPDX-License-Identifier: Apache-2.0
"""What ``import quorum_client`` loads."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"grpc", "numpy", "google", "tritonclient", "pandas", "pyarrow", "opentelemetry"}

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
    assert "opentelemetry" not in after


def test_the_import_takes_little_of_the_processor() -> None:
    code = (
        "import time; start = time.process_time(); import quorum_client; print(time.process_time() - start)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    taken_s = min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    )
    assert taken_s < 0.3

# SPDX-License-Identifier: Apache-2.0
"""Find the public data of tasks; tests that need it are skipped where it is absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def task_file(*parts: str) -> Path:
    """A file of ``tasks/`` in the data folder, which ``QUORUM_DATA`` names."""
    folder = Path(os.environ.get("QUORUM_DATA") or ROOT.parent / "shared" / "data")
    path = folder.joinpath("tasks", *parts)
    if not path.exists():
        pytest.skip(f"no public data at {path}; name its folder in QUORUM_DATA")
    return path

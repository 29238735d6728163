# SPDX-License-Identifier: Apache-2.0
"""For all tests: where shared helpers lie, how hypothesis runs, where recorded votes are found."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

LONGEST = (
    "test_gpu_check.py",
    "test_redeploy_under_load.py",
    "test_command_line.py",
    "test_canary.py",
    "test_probe.py",
)
"""Files that take longest, the longest first."""

# The same examples on every run, and no time limit: a busy machine must not decide what passes.
settings.register_profile(
    "quorum",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("quorum")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server, and start with the files that take longest: the workers end together."""
    for item in items:
        if (HERE / "e2e") in item.path.parents:
            item.add_marker(pytest.mark.e2e)
    items.sort(key=_start)


def _start(item: pytest.Item) -> tuple[int, int]:
    """The order of files: those that take longest first, then the others with servers."""
    name = item.path.name
    return (LONGEST.index(name) if name in LONGEST else len(LONGEST), (HERE / "e2e") not in item.path.parents)


@pytest.fixture(scope="session")
def recorded_votes() -> Path:
    """The recorded answers of real LLMs on AE-110K; ``QUORUM_DATA`` names the folder."""
    folder = Path(os.environ.get("QUORUM_DATA") or ROOT.parent / "shared" / "data")
    path = folder / "ae-110k" / "votes.jsonl"
    if not path.is_file():
        pytest.skip(f"no recorded votes at {path}; name their folder in QUORUM_DATA")
    return path

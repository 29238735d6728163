# SPDX-License-Identifier: Apache-2.0
"""For all tests: where shared helpers lie, how hypothesis runs, where recorded votes are found."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

LONGEST = (
    "test_flywheel.py",
    "test_redeploy_under_load.py",
    "test_gpu_check.py",
    "test_canary.py",
    "test_supervision.py",
    "test_redeploy_retriever.py",
    "test_probe.py",
    "test_command_line.py",
    "test_hf.py",
    "test_gateway_grpc.py",
    "test_rollout_damage.py",
    "test_distill.py",
    "test_chaos.py",
    "test_openai.py",
    "test_rollout_refusals.py",
    "test_lifecycle.py",
    "test_bench.py",
    "test_isolation.py",
    "test_hf_batches.py",
    "test_recommend.py",
    "test_fleet.py",
    "test_evaluate.py",
    "test_stream.py",
)
"""Files that take longest, the longest first."""
LATE = ("torch", "transformers")
"""What a file imports in a fixture or a test only: every process that runs tests collects all files."""
EARLY = pytest.StashKey[list[str]]()
SERVED = 0.85
"""The share of the run by which the last file with servers begins: those wait, and must not end it."""

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
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs a server, and start with the files that take longest: the workers end together.

    The other files with servers, which wait most of the time, are spread among those that compute.
    """
    config.stash[EARLY] = [name for name in LATE if sys.modules.get(name)]
    with_server: dict[Path, None] = {}
    without: dict[Path, None] = {}
    for item in items:
        if (HERE / "e2e") in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            with_server[item.path] = None
        else:
            without[item.path] = None
    places = {path: SERVED * number / len(with_server) for number, path in enumerate(with_server)}
    places |= {path: number / len(without) for number, path in enumerate(without)}
    places |= {path: LONGEST.index(path.name) - len(LONGEST) for path in places if path.name in LONGEST}
    items.sort(key=lambda item: places[item.path])


class _Stack(ctypes.Structure):
    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@pytest.fixture
def own_stack() -> None:
    """Let signals of this thread be handled on its own stack.

    OpenVINO gives a thread that compiles a model a stack for signals, and frees it elsewhere: where other
    tests of this process did so, the next signal would end the process.
    """
    disable = 2
    assert ctypes.CDLL(None).sigaltstack(ctypes.byref(_Stack(None, disable, 0)), None) == 0


@pytest.fixture(scope="session")
def imported_early(pytestconfig: pytest.Config) -> list[str]:
    """What is to be imported late, and was imported when the tests were collected."""
    return pytestconfig.stash[EARLY]


@pytest.fixture(scope="session")
def recorded_votes() -> Path:
    """The recorded answers of real LLMs on AE-110K; ``QUORUM_DATA`` names the folder."""
    folder = Path(os.environ.get("QUORUM_DATA") or ROOT.parent / "shared" / "data")
    path = folder / "ae-110k" / "votes.jsonl"
    if not path.is_file():
        pytest.skip(f"no recorded votes at {path}; name their folder in QUORUM_DATA")
    return path

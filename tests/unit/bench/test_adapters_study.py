# SPDX-License-Identifier: Apache-2.0
"""A process of the study of adapters that dies is noticed at once."""

from __future__ import annotations

import multiprocessing
import time

import pytest

from quorum_bench.studies import adapters


def test_a_process_that_dies_is_noticed_at_once() -> None:
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    start = time.monotonic()
    with pytest.raises(ValueError, match="merged: a process died before it answered"):
        adapters._received("merged", ours, 60.0)
    assert time.monotonic() - start < 30

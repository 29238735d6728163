# SPDX-License-Identifier: Apache-2.0
"""Redeploying under load, as ``quorum-bench study redeploys`` does; ``QUORUM_LONG=1`` for the long form."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from support.deployment import ATTRIBUTES, running, title, write_deployment
from support.raw import bytes_tensor
from support.rollout import trusting
from support.wire import grpc_reply

from quorum.rollout.channels import Rollout
from quorum.server.probe import probe_channel
from quorum.serving.admission import admission_of
from quorum_bench.studies import redeploys
from quorum_client import Overloaded
from quorum_contract import STABLE

LONG = bool(os.environ.get("QUORUM_LONG"))
PUBLISHES, REDEPLOYS = (100, 300) if LONG else (4, 24)
SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture(params=["in shared memory", *(["in the temporary folder"] if LONG else [])])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A rename must never cross file systems, wherever the repository lies."""
    if request.param == "in shared memory":
        assert SHARED_MEMORY.stat().st_dev != Path("/tmp").stat().st_dev
        return SHARED_MEMORY
    return tmp_path


@pytest.mark.timeout(900 if LONG else 300)
def test_redeploys_fail_nobody_and_leave_nothing(base: Path) -> None:
    with redeploys.serve(base) as target:
        load = redeploys.under_load(target, PUBLISHES, quiet_s=1.0)
        held = redeploys.held(target, REDEPLOYS)
    for part in (load, held):
        assert part["failures"] == []
        assert part["wrong"] == []
        assert part["requests"] > 100
    assert load["versions_seen"] > PUBLISHES // 3
    # A process that is never ended would hold 28 handles, 4 MiB of shared memory and 40 MiB of its own.
    for name, limit in (("processes", 0.2), ("handles", 5), ("region_kib", 800), ("server_kib", 500)):
        assert held["growth_per_redeploy"][name][0] < limit, name


def test_a_request_slower_than_the_retirement_of_its_version_is_answered_by_it(tmp_path: Path) -> None:
    """Triton keeps a version until those who began with it are done."""
    slow = {"options": {"latency_ms": 8000, "latency_shape": "constant"}}
    with running(write_deployment(tmp_path, {"alpha": {}, "beta": {}, "gamma": slow})) as live:
        # Asking a channel would take longer than what is tested here.
        rollout = Rollout(live.spec, live.control, live.control.pinned)
        two, three = (
            rollout.publish(trusting(live.spec.catalogue().hashes, "beta")).version for _ in range(2)
        )
        rollout.promote(two)
        text = bytes_tensor([title(0).encode()])
        asked = [live.ask_raw(text, ATTRIBUTES) for _ in range(8)]
        admission = admission_of(live.server.pid or 0)
        while admission.inside(time.monotonic_ns()) < len(asked):
            time.sleep(0.01)
        rollout.promote(three)
        rollout.retire(two)
        assert not any(future.done() for future in asked)
        assert {grpc_reply(future.result()).version for future in asked} == {two}
        assert live.ask(title(0), ATTRIBUTES).version == three


def test_under_a_full_gate_a_rollback_is_verified_by_what_the_server_loaded(tmp_path: Path) -> None:
    """The way back is most wanted when callers pile up, and then no probe gets in."""
    slow = {"options": {"latency_ms": 12000, "latency_shape": "constant"}}
    members = {"alpha": {}, "beta": {}, "gamma": slow}
    with running(write_deployment(tmp_path, members, gate={"max_in_flight": 1})) as live:
        rollout = Rollout(live.spec, live.control, live.control.pinned)
        bad = rollout.publish(trusting(live.spec.catalogue().hashes, "beta")).version
        rollout.promote(bad)
        asked = live.ask_raw(bytes_tensor([title(0).encode()]), ATTRIBUTES)
        admission = admission_of(live.server.pid or 0)
        while not admission.inside(time.monotonic_ns()):
            time.sleep(0.01)

        def probe(channel: str) -> int:
            with pytest.raises(Overloaded) as refused:
                probe_channel(live.spec, live.url, channel, timeout_s=1.0)
            raise refused.value

        change = Rollout(live.spec, live.control, probe).rollback()
        assert not asked.done(), "the gate was full all the time"
        assert (change.version, change.before) == (1, bad)
        last = rollout.history.last()
        assert last is not None
        assert (last.action, last.version, last.outcome) == ("rollback", 1, "done")
        assert grpc_reply(asked.result()).version == bad, "who began with it is answered by it"
        assert probe_channel(live.spec, live.url, STABLE) == 1

# SPDX-License-Identifier: Apache-2.0
"""Redeploying under load, as ``quorum-bench study redeploys`` does; ``QUORUM_LONG=1`` for the long form."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.deployment import ATTRIBUTES, Live, running, title, write_deployment
from support.raw import bytes_tensor, grpc_request
from support.rollout import trusting
from support.wire import grpc_reply

from quorum.rollout.channels import Rollout
from quorum.server.probe import probe_channel
from quorum.serving.admission import admission_of
from quorum_bench.studies import redeploys
from quorum_client import Overloaded
from quorum_contract import CANCEL, STABLE

LONG = bool(os.environ.get("QUORUM_LONG"))
PUBLISHES, REDEPLOYS = (100, 300) if LONG else (4, 24)
SHARED_MEMORY = Path("/dev/shm")
HELD = 8


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


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Requests stay inside until they are let go; eight fill the gate."""
    never = {"latency_ms": 120_000, "latency_shape": "constant"}
    members: dict[str, Any] = {"alpha": {}, "beta": {}, "gamma": {"options": never, "timeout_s": 110}}
    gate = {"max_in_flight": HELD, "timeout_s": 90}
    with running(write_deployment(tmp_path_factory.mktemp("slow"), members, gate=gate)) as live:
        yield live


def hold(live: Live) -> list[Any]:
    """Fill the gate; the futures of the responses."""
    asked = []
    for number in range(HELD):
        names = [name.encode() for name in ATTRIBUTES]
        request = grpc_request(STABLE, bytes_tensor([title(0).encode()]), names)
        request.id = f"held-{number}"
        asked.append(live.stub.ModelInfer.future(request, timeout=90))
    admission, end = admission_of(live.server.pid or 0), time.monotonic() + 60
    while admission.inside(time.monotonic_ns()) < HELD:
        assert time.monotonic() < end
        time.sleep(0.01)
    return asked


def let_go(live: Live, asked: list[Any]) -> set[int]:
    """Cancel their members' work; the versions of weights that answered without it."""
    for number in range(HELD):
        request = grpc_request(STABLE, bytes_tensor([b""]), [b""])
        request.parameters[CANCEL].string_param = f"held-{number}"
        with pytest.raises(grpc.RpcError, match="CANCELLED"):
            live.stub.ModelInfer(request, timeout=30)
    return {grpc_reply(future.result()).version for future in asked}


def test_a_request_slower_than_the_retirement_of_its_version_is_answered_by_it(slow: Live) -> None:
    """Triton keeps a version until those who began with it are done."""
    # Nobody could ask a channel.
    rollout = Rollout(slow.spec, slow.control, slow.control.pinned)
    two, three = (rollout.publish(trusting(slow.spec.catalogue().hashes, "beta")).version for _ in range(2))
    rollout.promote(two)
    asked = hold(slow)
    rollout.promote(three)
    rollout.retire(two)
    assert not any(future.done() for future in asked)
    assert let_go(slow, asked) == {two}
    assert probe_channel(slow.spec, slow.url, STABLE) == three


def test_under_a_full_gate_a_rollback_is_verified_by_what_the_server_loaded(slow: Live) -> None:
    """The way back is most wanted when callers pile up, and then no probe gets in."""
    rollout = Rollout(slow.spec, slow.control, slow.control.pinned)
    good = rollout.store.state().pins[STABLE]
    bad = rollout.publish(trusting(slow.spec.catalogue().hashes, "beta")).version
    rollout.promote(bad)
    asked = hold(slow)

    def probe(channel: str) -> int:
        with pytest.raises(Overloaded) as refused:
            probe_channel(slow.spec, slow.url, channel, timeout_s=1.0)
        raise refused.value

    change = Rollout(slow.spec, slow.control, probe).rollback()
    assert not any(future.done() for future in asked), "the gate was full all the time"
    assert (change.version, change.before) == (good, bad)
    last = rollout.history.last()
    assert last is not None
    assert (last.action, last.version, last.outcome) == ("rollback", good, "done")
    assert let_go(slow, asked) == {bad}, "who began with it is answered by it"
    assert probe_channel(slow.spec, slow.url, STABLE) == good

# SPDX-License-Identifier: Apache-2.0
"""What outsiders cannot do: go around the gate, or administer the server without its key."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.deployment import ATTRIBUTES, Live, running, title, write_deployment
from support.raw import bytes_tensor, grpc_request
from support.wire import elements
from tritonclient.grpc import service_pb2 as pb

from quorum.server.control import Control, ControlError
from quorum.server.triton import ADMIN_HEADER, GRPC_ADMIN_HEADER
from quorum.serving.packing import Admitted, add_ticket, pack_question, pack_votes, take_ticket, unpack_votes
from quorum_contract import QUESTION, VOTES, Status

ADMIN_CALLS: dict[str, Callable[[Any], tuple[Callable[..., Any], Any]]] = {
    "load": lambda s: (s.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="quorum")),
    "unload": lambda s: (s.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name="nobody")),
    "index": lambda s: (s.RepositoryIndex, pb.RepositoryIndexRequest()),
    "config": lambda s: (s.ModelConfig, pb.ModelConfigRequest(name="quorum")),
    "statistics": lambda s: (s.ModelStatistics, pb.ModelStatisticsRequest(name="quorum")),
    "shared memory": lambda s: (s.SystemSharedMemoryStatus, pb.SystemSharedMemoryStatusRequest()),
    "cuda memory": lambda s: (s.CudaSharedMemoryStatus, pb.CudaSharedMemoryStatusRequest()),
    "trace": lambda s: (s.TraceSetting, pb.TraceSettingRequest()),
    "logging": lambda s: (s.LogSettings, pb.LogSettingsRequest()),
}
ADMIN_PATHS = {
    "load": ("POST", "/v2/repository/models/quorum/load"),
    "unload": ("POST", "/v2/repository/models/nobody/unload"),
    "index": ("POST", "/v2/repository/index"),
    "config": ("GET", "/v2/models/quorum/config"),
    "statistics": ("GET", "/v2/models/quorum/stats"),
    "shared memory": ("GET", "/v2/systemsharedmemory/status"),
    "cuda memory": ("GET", "/v2/cudasharedmemory/status"),
    "trace": ("GET", "/v2/trace/setting"),
    "logging": ("GET", "/v2/logging"),
}
# This server has no CUDA; with the key the question reaches it and finds nothing.
MAY_FAIL_INSIDE = {"cuda memory"}


def is_restricted(call: Callable[..., Any], request: Any, metadata: Any = ()) -> bool:
    try:
        call(request, timeout=30, metadata=metadata)
    except grpc.RpcError as error:
        return error.code() == grpc.StatusCode.UNAVAILABLE and "restricted" in error.details()
    return False


@pytest.mark.parametrize("what", ADMIN_CALLS)
def test_grpc_administration_opens_only_to_the_key(steady: Live, what: str) -> None:
    call, request = ADMIN_CALLS[what](steady.stub)
    assert is_restricted(call, request)
    assert is_restricted(call, request, [(GRPC_ADMIN_HEADER, "guess")])
    key = [(GRPC_ADMIN_HEADER, steady.endpoint.admin_key)]
    assert not is_restricted(call, request, key)
    if what not in MAY_FAIL_INSIDE:
        call(request, timeout=30, metadata=key)


def http_status(live: Live, method: str, path: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", live.endpoint.http_port, timeout=30)
    try:
        connection.request(method, path, b"" if method == "POST" else None, headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("what", ADMIN_PATHS)
def test_http_administration_opens_only_to_the_key(steady: Live, what: str) -> None:
    method, path = ADMIN_PATHS[what]
    assert http_status(steady, method, path, {}) == 403
    assert http_status(steady, method, path, {ADMIN_HEADER: "guess"}) == 403
    opened = http_status(steady, method, path, {ADMIN_HEADER: steady.endpoint.admin_key})
    assert opened == 200 or (what in MAY_FAIL_INSIDE and opened != 403)


def test_questions_and_health_need_no_key(steady: Live) -> None:
    assert steady.ask(title(0), ATTRIBUTES).version == 1
    assert steady.stub.ServerLive(pb.ServerLiveRequest(), timeout=30).live
    assert http_status(steady, "GET", "/v2/models/quorum/ready", {}) == 200


def test_a_wrong_key_is_named_as_the_cause(steady: Live) -> None:
    with Control(steady.url, "guess") as control, pytest.raises(ControlError, match="QUORUM_ADMIN_KEY"):
        control.load("quorum")


def directly(live: Live, model: str, ticket: int) -> list[tuple[int, ...]]:
    """Statuses that `model` answers to a caller who is not the ensemble."""
    request = pb.ModelInferRequest(model_name=model)

    def add(name: str, raw: bytes) -> None:
        request.inputs.add(name=name, datatype="UINT8", shape=[len(raw)])
        request.raw_input_contents.append(raw)

    deadline = time.monotonic_ns() + 20_000_000_000
    add(QUESTION, add_ticket(ticket, pack_question(Admitted(title(0), "", tuple(ATTRIBUTES), deadline))))
    if model == "quorum_vote":
        for member in live.spec.member_names:
            add(f"{member}_{VOTES}", pack_votes([("forged", 0, None)] * len(ATTRIBUTES)))
    response = live.stub.ModelInfer(request, timeout=30)
    raw = dict(zip([o.name for o in response.outputs], response.raw_output_contents, strict=True))
    if VOTES in raw:
        return [(len(value), status) for value, status, _ in unpack_votes(raw[VOTES])]
    values, status = elements(raw["VALUES"]), raw["MEMBER_STATUS"]
    codes = [int.from_bytes(status[i : i + 4], "little") for i in range(0, len(status), 4)]
    return [(len(value), code) for value, code in zip(values * len(codes), codes, strict=False)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\xff" * 20,
        bytes(19),
        add_ticket(1, pack_question(Admitted("a", "", ("b",), 0)))[:-1],
        b"\x91" * 5000,
        bytes(8) + b"\x94\xa1a\xa0\xdd\x00\x0f\x42\x40" + b"\xa0" * 1_000_000 + b"\x00",
    ],
)
@pytest.mark.parametrize("model", ["alpha", "quorum_vote"])
def test_bytes_that_no_gate_made_harm_nobody(steady: Live, model: str, data: bytes) -> None:
    request = pb.ModelInferRequest(model_name=model)
    names = [QUESTION]
    if model == "quorum_vote":
        names += [f"{member}_{VOTES}" for member in steady.spec.member_names]
    for name in names:
        request.inputs.add(name=name, datatype="UINT8", shape=[len(data)])
        request.raw_input_contents.append(data)
    steady.stub.ModelInfer(request, timeout=30)
    assert steady.ask(title(0), ATTRIBUTES).version == 1


@pytest.mark.parametrize("ticket", [0, -1, 1, 1 << 16, (1 << 63) - 1, -(1 << 63)])
@pytest.mark.parametrize("model", ["alpha", "quorum_vote"])
def test_around_the_gate_everybody_abstains(steady: Live, model: str, ticket: int) -> None:
    assert set(directly(steady, model, ticket)) == {(0, Status.REFUSED)}


def test_a_ticket_that_the_gate_gave_directly_fits_no_other_question(steady: Live) -> None:
    request = grpc_request("quorum_gate", bytes_tensor([b"another text"]), [b"brand"], b"")
    request.parameters["timeout"].int64_param = 100_000
    response = steady.stub.ModelInfer(request, timeout=30)
    raw = dict(zip([o.name for o in response.outputs], response.raw_output_contents, strict=True))
    ticket = take_ticket(raw[QUESTION]).ticket
    assert ticket > 0
    assert set(directly(steady, "alpha", ticket)) == {(0, Status.REFUSED)}


def test_allow_direct_lets_callers_around_the_gate(tmp_path: Path) -> None:
    deploy = write_deployment(tmp_path, {"alpha": {}, "beta": {}}, gate={"allow_direct": True})
    with running(deploy) as live:
        for model in ("alpha", "quorum_vote"):
            found = directly(live, model, 0)
            assert {code for _, code in found} == {Status.ANSWERED}
            assert all(size for size, _ in found)

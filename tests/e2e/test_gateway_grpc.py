# SPDX-License-Identifier: Apache-2.0
"""The gateway: callers with the key get the answers of the server behind it, and no caller gets more."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from support.command import quorum, quorum_json, start, wait_for_note
from support.deployment import ATTRIBUTES, START_S, title, write_deployment
from support.gateway import KEY, Guarded, guarded, idle_connections, is_closed, wait_until
from support.held import is_inside
from support.raw import bytes_tensor, grpc_request
from tritonclient.grpc import service_pb2 as pb

import quorum_client as qc
from quorum.deployment import load_deployment
from quorum.deployment.gateway import LARGEST_QUESTION_BYTES
from quorum.gateway.grpc_half import MAX_CONNECTIONS
from quorum.operations.probe import probes_of
from quorum.server import gateway_process
from quorum.server.endpoint import ServerProcessError
from quorum.server.exposure import INFERENCE_KEY_VARIABLE
from quorum.server.gateway_process import open_gateway
from quorum.server.gateway_settings import check_gateway
from quorum.server.launch import most_open_files
from quorum.server.runfile import find_running
from quorum.server.supervise import wait_channels
from quorum.server.triton import GRPC_ADMIN_HEADER
from quorum.serving.admission import admission_of
from quorum_contract import MAX_ATTRIBUTE_BYTES, MAX_ATTRIBUTES, MAX_CATEGORY_BYTES, MAX_TEXT_BYTES
from quorum_contract.errors import take_code

PASSED = {"ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer"}
METHODS = [m.name for m in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods]
HUGE = bytes(60 << 20)
# A quarter of a megabyte when deflated.
BOMB = bytes(256 << 20)
SLACK_MIB = 96
UNHURT_MIB = 8


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded(write_deployment(tmp_path_factory.mktemp("gateway"), {"alpha": {}, "beta": {}})) as found:
        found.call("ModelInfer", question().SerializeToString(), times=32)
        yield found


@pytest.fixture
def unhurt(behind: Guarded) -> Iterator[Guarded]:
    """A test must leave the server alive, its memory flat, its slots free, and the gateway bounded."""
    pid, before = behind.live.server.pid, behind.memory()
    yield behind
    assert behind.live.server.pid == pid
    assert behind.reports == []
    now = behind.memory()
    assert now["triton"] - before["triton"] <= UNHURT_MIB
    assert now["gateway"] - before["gateway"] <= SLACK_MIB
    assert pid is not None
    assert admission_of(pid).inside(time.monotonic_ns()) == 0
    with behind.client() as client:
        assert client.extract(title(0), ATTRIBUTES).weights_version == 1


def question(model: str = "quorum", text: str = title(1)) -> Any:
    return grpc_request(model, bytes_tensor([text.encode()]), [b"brand", b"color"], b"")


def failures(found: list[bytes | grpc.RpcError]) -> set[tuple[grpc.StatusCode, str | None]]:
    """Statuses and codes of errors, which all of the outcomes must be."""
    return {(error.code(), take_code(error.details()).code) for error in found}  # type: ignore[union-attr]


def test_answers_are_those_of_the_server(unhurt: Guarded) -> None:
    with unhurt.client() as outside, qc.Client(unhurt.live.url) as inside:
        for channel in ("quorum", "quorum_canary"):
            assert outside.is_ready(channel)
            for product in range(8):
                asked = {
                    "channel": channel,
                    "request_id": f"r{product}",
                    "category": "shoes",
                    "priority": "bulk",
                }
                answers = [c.extract(title(product), ATTRIBUTES, **asked) for c in (outside, inside)]
                assert answers[0] == replace(answers[1], latency_s=answers[0].latency_s)


def test_bulk_passes_the_door(unhurt: Guarded) -> None:
    items = [qc.Item(title(1), ATTRIBUTES, category="shoes")] * 2
    with unhurt.client() as client:
        assert len(list(client.extract_many(items))) == 2


def test_the_largest_question_passes(unhurt: Guarded) -> None:
    names = [f"{n:03d}".ljust(MAX_ATTRIBUTE_BYTES, "x") for n in range(MAX_ATTRIBUTES)]
    with unhurt.client() as client:
        found = client.extract(
            "x" * MAX_TEXT_BYTES, names, category="c" * MAX_CATEGORY_BYTES, request_id="i" * 128
        )
    assert len(found.answers) == MAX_ATTRIBUTES


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("key", [None, "wrong", KEY[:-1], KEY + "x", ""])
def test_without_the_key_nothing_passes(behind: Guarded, method: str, key: str | None) -> None:
    found = behind.call(method, b"", key=key)
    assert failures(found) == {(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")}


def test_two_keys_are_none(behind: Guarded) -> None:
    found = behind.call("ServerLive", b"", headers=[("authorization", "Bearer guess")])
    assert failures(found) == {(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")}


@pytest.mark.parametrize("key", [None, "a wrong key"])
def test_the_client_says_that_the_key_is_wrong(behind: Guarded, key: str | None) -> None:
    with behind.client(key) as client:
        with pytest.raises(qc.Unauthenticated, match=r"wrong or missing key.*key=") as caught:
            client.extract(title(0), ATTRIBUTES)
        with pytest.raises(qc.Unauthenticated):
            client.is_ready()
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("method", sorted(set(METHODS) - PASSED))
def test_no_administration_passes_not_even_with_both_keys(unhurt: Guarded, method: str) -> None:
    admin = (GRPC_ADMIN_HEADER, unhurt.live.endpoint.admin_key)
    found = unhurt.call(method, b"", headers=[admin])
    assert failures(found) == {(grpc.StatusCode.UNIMPLEMENTED, "INVALID_REQUEST")}


def classified() -> Any:
    request = question()
    request.outputs.add(name="VALUES").parameters["classification"].int64_param = 1
    return request


def in_shared_memory() -> Any:
    request = question()
    for name in ("shared_memory_region", "shared_memory_byte_size"):
        request.inputs[0].parameters[name].int64_param = 1
    return request


def of_a_sequence() -> Any:
    request = question()
    request.parameters["sequence_id"].int64_param = 1
    return request


@pytest.mark.parametrize(
    ("harmful", "parameter"),
    [(classified, "classification"), (in_shared_memory, "shared_memory"), (of_a_sequence, "sequence_id")],
)
def test_parameters_that_no_question_has_are_refused(
    unhurt: Guarded, harmful: Callable[[], Any], parameter: str
) -> None:
    found = unhurt.call("ModelInfer", harmful().SerializeToString(), times=8)
    assert failures(found) == {(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")}
    assert parameter in found[0].details()  # type: ignore[union-attr]


def test_bytes_that_are_no_message_are_refused(unhurt: Guarded) -> None:
    found = unhurt.call("ModelInfer", b"\xff" * 99, times=8)
    assert failures(found) == {(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")}


@pytest.mark.parametrize("model", ["quorum_gate", "quorum_vote", "alpha", "nothing", ""])
def test_only_channels_can_be_asked(unhurt: Guarded, model: str) -> None:
    for method, message in (
        ("ModelInfer", question(model)),
        ("ModelReady", pb.ModelReadyRequest(name=model)),
        ("ModelMetadata", pb.ModelMetadataRequest(name=model)),
    ):
        found = unhurt.call(method, message.SerializeToString(), times=300)
        assert failures(found) == {(grpc.StatusCode.NOT_FOUND, "CHANNEL_NOT_FOUND")}


@pytest.mark.parametrize("key", [None, KEY])
def test_huge_messages_take_no_memory(unhurt: Guarded, key: str | None) -> None:
    refused = grpc.StatusCode.RESOURCE_EXHAUSTED if key else grpc.StatusCode.UNAUTHENTICATED
    found = unhurt.call("ModelInfer", HUGE, key=key, times=12)
    assert {error.code() for error in found} == {refused}  # type: ignore[union-attr]


@pytest.mark.parametrize("key", [None, KEY])
def test_what_is_deflated_is_not_inflated(unhurt: Guarded, key: str | None) -> None:
    found = unhurt.call("ModelInfer", BOMB, key=key, compression=grpc.Compression.Deflate)
    assert failures(found) == {(grpc.StatusCode.UNIMPLEMENTED, None)}


def test_one_byte_too_many_is_too_many(unhurt: Guarded) -> None:
    (found,) = unhurt.call("ModelInfer", bytes(LARGEST_QUESTION_BYTES + 1))
    assert found.code() == grpc.StatusCode.RESOURCE_EXHAUSTED  # type: ignore[union-attr]


def test_the_server_itself_listens_on_loopback_and_without_http(behind: Guarded) -> None:
    endpoint = behind.live.endpoint
    assert endpoint.http_port is None
    listening = {
        (c.laddr.ip.removeprefix("::ffff:"), c.laddr.port)
        for c in psutil.Process(behind.live.server.pid).net_connections("tcp")
        if c.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", endpoint.grpc_port), ("127.0.0.1", endpoint.metrics_port)}


@pytest.mark.skipif(most_open_files() < MAX_CONNECTIONS + 1000, reason="too few files may be open here")
def test_connections_are_limited_and_the_gateway_goes_on_without_them(unhurt: Guarded) -> None:
    host, _, port = unhurt.url.rpartition(":")
    held = idle_connections(host, int(port), MAX_CONNECTIONS + 100)
    try:
        wait_until(lambda: sum(map(is_closed, held)) >= 100)
        assert unhurt.live.ask(title(0), ATTRIBUTES).version == 1
    finally:
        for sock in held:
            sock.close()
    with unhurt.client(None) as client:
        wait_until(lambda: knows_no_key(client))


def knows_no_key(client: qc.Client) -> bool:
    """Whether the gateway answers at all."""
    try:
        client.is_ready()
    except qc.Unauthenticated:
        return True
    return False


def test_a_gateway_that_cannot_open_says_why(behind: Guarded, tmp_path: Path) -> None:
    second = open_gateway(behind.live.spec, behind.live.endpoint, KEY, tmp_path / "log", lambda _: None)
    with pytest.raises(ServerProcessError, match=rf"{behind.url} did not open: .*{behind.url}"), second:
        pass
    with pytest.raises(ServerProcessError, match=r"server\.grpc_port .* in use"):
        check_gateway(behind.live.spec, behind.live.endpoint, KEY)


def test_a_full_gate_is_overloaded_through_the_gateway_too(tmp_path: Path) -> None:
    slow = {"options": {"latency_ms": 3000, "latency_shape": "constant"}}
    deploy = write_deployment(tmp_path, {"alpha": slow}, gate={"max_in_flight": 1})
    with guarded(deploy) as behind, behind.client(retries=False) as client:
        found = list(client.extract_many([qc.Item(title(n), ATTRIBUTES) for n in range(4)], errors="return"))
    kinds = [type(one) for one in found]
    assert sorted(k.__name__ for k in kinds) == ["Extraction", "Overloaded", "Overloaded", "Overloaded"]


def test_a_gateway_is_opened_again_whatever_happened_to_it(behind: Guarded, tmp_path: Path) -> None:
    """Also when the report of that has no reader any more."""

    def report(text: str) -> None:
        reports.append(text)
        raise BrokenPipeError

    reports: list[str] = []
    # An address of loopback that is free.
    elsewhere = behind.url.replace("127.0.0.1", "127.0.0.2")
    endpoint = replace(behind.live.endpoint, gateway=elsewhere)
    with open_gateway(behind.live.spec, endpoint, KEY, tmp_path / "log", report) as gateway:
        assert gateway
        (tmp_path / "log").write_bytes(b"why it ended")
        for sign in (signal.SIGKILL, signal.SIGSTOP):
            before = gateway.pid
            os.kill(before, sign)
            wait_until(lambda before=before: gateway.pid != before)
            with qc.Client(elsewhere, key=KEY) as client:
                assert client.extract(title(0), ATTRIBUTES).weights_version == 1
    assert ["is stopped" in text for text in reports] == [False, True, False]
    assert (tmp_path / "log").read_bytes() == b"why it ended"


def test_a_gateway_that_has_grown_too_large_is_opened_again(
    behind: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = behind.url.replace("127.0.0.1", "127.0.0.4")
    endpoint, reports = replace(behind.live.endpoint, gateway=elsewhere), list[str]()
    with open_gateway(behind.live.spec, endpoint, KEY, tmp_path / "log", reports.append) as gateway:
        assert gateway
        before = gateway.pid
        with monkeypatch.context() as small:
            small.setattr(gateway_process, "_MOST_MEMORY", 1 << 20)
            wait_until(lambda: reports)
        wait_until(lambda: gateway.pid != before)
        with qc.Client(elsewhere, key=KEY) as client:
            assert client.extract(title(0), ATTRIBUTES).weights_version == 1
    assert "more than 1 MiB of memory" in reports[0]


def test_a_server_whose_gateway_is_shut_is_not_ready(
    behind: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers come through the gateway: before it opens, and while it closes, none should be sent here."""
    monkeypatch.setenv(INFERENCE_KEY_VARIABLE, KEY)
    with probes_of(behind.live.server, 0) as probes:
        assert probes.answer("/ready")[0] == HTTPStatus.OK
    shut = replace(behind.live.endpoint, gateway=behind.url.replace("127.0.0.1", "127.0.0.3"))
    monkeypatch.setattr(behind.live.server, "endpoint", shut)
    with probes_of(behind.live.server, 0) as probes:
        assert probes.answer("/ready")[0] == HTTPStatus.SERVICE_UNAVAILABLE
        assert probes.answer("/live")[0] == HTTPStatus.OK


def test_gateway_and_server_die_apart_and_come_back(tmp_path: Path) -> None:
    slow = {"options": {"latency_ms": 400, "latency_shape": "constant"}}
    with guarded(write_deployment(tmp_path, {"alpha": slow})) as behind:
        first = behind.gateway.pid
        os.kill(first, signal.SIGKILL)
        with behind.client() as client:
            wait_until(client.is_ready)
            assert behind.gateway.pid != first
            assert [line for line in behind.reports if "opening it again" in line]
            client.extract(title(0), ATTRIBUTES)
            server = behind.live.server
            inside = admission_of(server.pid)
            with behind.client(retries=False, timeout_s=START_S) as waiting, ThreadPoolExecutor(1) as pool:
                asked = pool.submit(waiting.extract, title(0), ATTRIBUTES, request_id="broken off")
                wait_until(lambda: is_inside(inside, "broken off"))
                server.stop(drain_s=0)
                refuses_in_time(behind)
                server.start()
                wait_channels(server, START_S)
                assert asked.result(START_S).weights_version == 1


def refuses_in_time(behind: Guarded) -> None:
    """A caller that cannot wait is refused before its deadline, by an error that says why."""
    with (
        behind.client(retries=False, timeout_s=3) as client,
        pytest.raises(qc.Unavailable, match="away") as caught,
    ):
        client.extract(title(0), ATTRIBUTES)
    assert caught.value.code == "UNAVAILABLE"


def test_gateway_and_server_end_with_the_process_that_serves(tmp_path: Path) -> None:
    write_deployment(tmp_path, {"alpha": {}})
    quorum(tmp_path, "render")
    process = start(tmp_path, "up", QUORUM_INFERENCE_KEY=KEY)
    wait_for_note(tmp_path, process)
    running = find_running(load_deployment(tmp_path / "deploy.yaml"))
    assert running
    assert running.endpoint.gateway
    host, _, port = running.endpoint.gateway.rpartition(":")
    quorum_json(tmp_path, "ask", title(0))
    with pytest.raises(AssertionError, match="wrong or missing key"):
        quorum(tmp_path, "ask", title(0), "--url", running.endpoint.gateway)
    quorum_json(tmp_path, "ask", title(0), "--url", running.endpoint.gateway, QUORUM_INFERENCE_KEY=KEY)
    for pid in (running.pid, *(p.pid for p in psutil.Process(process.pid).children())):
        assert KEY not in " ".join(psutil.Process(pid).cmdline())
    assert KEY not in (tmp_path / ".quorum" / "server.json").read_text("utf-8")
    process.kill()
    process.communicate(timeout=30)
    wait_until(lambda: is_refused(host, int(port)) and not psutil.pid_exists(running.pid))


def test_sigterm_answers_what_came_through_the_gateway_of_deploy_yaml(tmp_path: Path) -> None:
    slow = {"options": {"latency_ms": 2000, "latency_shape": "constant"}}
    write_deployment(tmp_path, {"alpha": slow}, gateway={"grpc_port": 0})
    quorum(tmp_path, "render")
    key = quorum_json(tmp_path, "gateway", "keys", "add", "shop", "--requests-per-day", "9")["key"]
    process = start(tmp_path, "up")
    wait_for_note(tmp_path, process)
    running = find_running(load_deployment(tmp_path / "deploy.yaml"))
    assert running
    admission = admission_of(running.pid)
    with qc.Client(running.endpoint.gateway or "", key=key) as client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.extract, title(0), ATTRIBUTES, request_id="asked")
        # The supervision asks too.
        wait_until(lambda: is_inside(admission, "asked"))
        process.send_signal(signal.SIGTERM)
        assert asked.result(timeout=60).answers[0].votes[0].status is qc.Status.ANSWERED
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "opening it again" not in err
    (caller,) = quorum_json(tmp_path, "gateway", "keys", "list")
    assert (caller["name"], caller["day_requests"]) == ("shop", 1)


def is_refused(host: str, port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((host, port)) != 0

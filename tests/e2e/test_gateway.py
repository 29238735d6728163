# SPDX-License-Identifier: Apache-2.0
"""The gateway of a section ``gateway``: keys, roles, quotas, certificates and health, before one server."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import stat
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from support.certificates import NO_OPENSSL, make_certificates, sign
from support.command import quorum_json, start
from support.days import in_one_day
from support.deployment import ATTRIBUTES, Live, running, title, write_deployment
from support.gateway import Guarded, gated, wait_until
from support.raw import bytes_tensor, grpc_request
from tritonclient.grpc import service_pb2 as pb

import quorum_client as qc
from quorum.gateway.keys import KeysError, add_caller, remove_caller
from quorum.gateway.tls import CertificateError
from quorum.serving.budget import CALLERS, read_windows

HEALTH = "/grpc.health.v1.Health/Check"
PRICED = {"price": {"per_call": 0.5}}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    members = {"alpha": PRICED, "beta": PRICED}
    with running(write_deployment(tmp_path_factory.mktemp("gateway"), members)) as live:
        yield live


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the gateway, with one caller."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "key").write_text(add_caller(folder / "keys.json", "shop"), "ascii")
    return folder


@pytest.fixture(scope="module")
def gateway(live: Live, folder: Path) -> Iterator[Guarded]:
    with gated(live, folder) as found:
        yield found


@pytest.fixture
def shop(folder: Path) -> str:
    return (folder / "key").read_text("ascii")


def is_known(gateway: Guarded, key: str) -> bool:
    """Whether the gateway has read the caller of a key; a question would count."""
    with gateway.client(key) as client:
        try:
            return client.is_ready()
        except qc.Unauthenticated:
            return False


def outcome(gateway: Guarded, key: str) -> str:
    """``answered``, or the code of the error."""
    with gateway.client(key, retries=False) as client:
        try:
            client.extract(title(0), ATTRIBUTES)
        except qc.QuorumError as error:
            return error.code
    return "answered"


def outcomes(gateway: Guarded, key: str, number: int) -> list[str]:
    return [outcome(gateway, key) for _ in range(number)]


def test_the_file_holds_no_key_and_others_cannot_read_it(folder: Path, shop: str) -> None:
    path = folder / "keys.json"
    assert shop not in path.read_text("utf-8")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_caller_gets_what_its_roles_allow(gateway: Guarded, folder: Path, shop: str) -> None:
    assert outcome(gateway, shop) == "answered"
    reader = add_caller(folder / "keys.json", "reader", ["read"])
    wait_until(lambda: is_known(gateway, reader))
    with gateway.client(reader) as client:
        assert client.is_ready()
        with pytest.raises(qc.PermissionDenied, match=r"'reader' may not extract"):
            client.extract(title(0), ATTRIBUTES)
        with pytest.raises(qc.PermissionDenied, match="may not recommend"):
            client.recommend("shoes")


def test_keys_come_and_go_while_it_runs_and_a_broken_file_changes_nothing(
    gateway: Guarded, folder: Path, shop: str
) -> None:
    path = folder / "keys.json"
    later = add_caller(path, "later")
    wait_until(lambda: outcome(gateway, later) == "answered")
    whole = path.read_text("utf-8")
    path.write_text(whole[:-9], "utf-8")
    wait_until(lambda: outcome(gateway, later) == "answered" and "stay as they were" in log(folder))
    path.write_text(whole, "utf-8")
    remove_caller(path, "later")
    wait_until(lambda: outcome(gateway, later) == "UNAUTHENTICATED")
    assert outcome(gateway, shop) == "answered"


def log(folder: Path) -> str:
    return (folder / "gateway.log").read_text("utf-8")


def test_a_quota_of_requests_holds_over_a_restart_and_between_gateways(
    gateway: Guarded, live: Live, folder: Path, shop: str
) -> None:
    in_one_day()
    key = add_caller(folder / "keys.json", "few", requests_per_day=5)
    wait_until(lambda: is_known(gateway, key))
    # Refused before any member was asked: not counted. One after another, as those in flight count.
    wrong = grpc_request("quorum", b"", [b"brand"]).SerializeToString()
    for _ in range(8):
        (error,) = gateway.call("ModelInfer", wrong, key=key)
        assert isinstance(error, grpc.RpcError)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert outcomes(gateway, key, 2) == ["answered"] * 2
    before = gateway.gateway.pid
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: gateway.gateway.pid != before)
    assert outcomes(gateway, key, 2) == ["answered"] * 2
    with gated(live, folder) as second:
        assert outcomes(second, key, 2) == ["answered", "QUOTA_SPENT"]
        assert outcome(second, shop) == "answered"
    with gateway.client(key) as client, pytest.raises(qc.QuotaSpent) as caught:
        client.extract(title(0), ATTRIBUTES)
    assert 0 < (caught.value.retry_after_s or 0) <= 86_400
    assert outcome(gateway, shop) == "answered"


def test_a_quota_of_money_counts_what_answers_cost(gateway: Guarded, folder: Path) -> None:
    """Two members at 0.5 each; also where a caller asks for another output only."""
    in_one_day()
    key = add_caller(folder / "keys.json", "thrifty", cost_per_day=2.5)
    wait_until(lambda: is_known(gateway, key))
    request = grpc_request("quorum", bytes_tensor([title(0).encode()]), [b"brand"])
    request.outputs.add(name="VALUES")
    for expected in (grpc.StatusCode.OK, grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED):
        (found,) = gateway.call("ModelInfer", request.SerializeToString(), key=key)
        assert (found.code() if isinstance(found, grpc.RpcError) else grpc.StatusCode.OK) is expected


@pytest.fixture(scope="module")
def slow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slow")


@pytest.fixture(scope="module")
def slow(slow_folder: Path) -> Iterator[Guarded]:
    """Of members that take longer than callers wait."""
    late = PRICED | {"options": {"latency_ms": 600, "latency_shape": "constant"}}
    add_caller(slow_folder / "keys.json", "shop")
    with (
        running(write_deployment(slow_folder / "server", {"alpha": late, "beta": late})) as live,
        gated(live, slow_folder) as found,
    ):
        yield found


@pytest.mark.parametrize("how", ["hangs up", "cancels"])
def test_a_quota_of_money_counts_answers_that_are_not_waited_for(
    how: str, slow: Guarded, slow_folder: Path
) -> None:
    """Two members at 0.5 each, of whose calls the caller sees no answer."""
    folder, name = slow_folder, how.replace(" ", "-")
    key = add_caller(folder / "keys.json", name, cost_per_day=3.0)
    wait_until(lambda: is_known(slow, key))
    header = [("authorization", f"Bearer {key}")]

    def spend() -> bool:
        """Whether the quota is spent; what is asked here is never answered."""
        with grpc.insecure_channel(slow.url) as channel:
            send = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            request = grpc_request("quorum", bytes_tensor([title(0).encode()]), [b"brand"])
            request.id = uuid.uuid4().hex
            call = send.future(request.SerializeToString(), timeout=60, metadata=header)
            with suppress(grpc.FutureTimeoutError):
                error = call.exception(0.3)
                return isinstance(error, grpc.RpcError) and "QUOTA_SPENT" in str(error.details())
            if how == "hangs up":
                call.cancel()
                return False
            request.parameters["quorum_cancel"].string_param = request.id
            request.id = ""
            send.future(request.SerializeToString(), timeout=60, metadata=header).exception()
            call.exception()
        return False

    wait_until(spend)
    assert read_windows(folder, name, CALLERS)[1].cost >= 3.0


def test_health_needs_no_key_and_says_no_more(gateway: Guarded, live: Live) -> None:
    def check(service: str) -> bytes | grpc.StatusCode:
        with grpc.insecure_channel(gateway.url) as channel:
            message = pb.ModelReadyRequest(name=service).SerializeToString()
            call = channel.unary_unary(HEALTH).future(message, timeout=60)
            error = call.exception()
            return error.code() if isinstance(error, grpc.RpcError) else call.result()

    assert check("") == check("quorum") == b"\x08\x01"
    assert check("quorum_lazy") == b"\x08\x02"
    assert check("alpha") is grpc.StatusCode.NOT_FOUND


def test_it_runs_by_itself_before_a_server_elsewhere(live: Live, tmp_path: Path) -> None:
    write_deployment(tmp_path, {"alpha": PRICED, "beta": PRICED}, gateway={"grpc_port": 0})
    key = quorum_json(tmp_path, "gateway", "keys", "add", "shop")["key"]
    process = start(tmp_path, "gateway", "--target", live.url)
    try:
        assert process.stderr is not None
        note = process.stderr.readline()
        with qc.Client(note.split("listens at ")[1].split(",")[0], key=key) as client:
            assert client.extract(title(0), ATTRIBUTES).weights_version == 1
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err


def test_without_callers_it_does_not_start(live: Live, tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="quorum gateway keys add"), gated(live, tmp_path):
        pass


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@NO_OPENSSL
def test_mutual_tls_with_certificates_that_are_replaced(
    live: Live, folder: Path, shop: str, certificates: Path, tmp_path: Path
) -> None:
    shutil.copy(folder / "keys.json", tmp_path)
    for name in ("server.pem", "server.key", "ca.pem"):
        shutil.copy(certificates / name, tmp_path)
    ca, pem, key = (certificates / name for name in ("ca.pem", "client.pem", "client.key"))
    tls = {"certificate": "server.pem", "key": "server.key", "client_ca": "ca.pem"}
    with gated(live, tmp_path, tls=tls) as gateway:
        with gateway.client(shop, tls=qc.Tls(ca, pem, key)) as client:
            assert client.extract(title(0), ATTRIBUTES).weights_version == 1
        for wrong in (qc.Tls(ca), False):
            with (
                gateway.client(shop, tls=wrong, retries=False, timeout_s=5) as client,
                pytest.raises(qc.Unavailable),
            ):
                client.extract(title(0), ATTRIBUTES)
        with gateway.client(None, tls=qc.Tls(ca, pem, key)) as client, pytest.raises(qc.Unauthenticated):
            client.extract(title(0), ATTRIBUTES)
        first = served_certificate(gateway.url, certificates)
        (tmp_path / "server.pem").write_text("broken", "ascii")
        assert served_certificate(gateway.url, certificates) == first
        sign(certificates, "server")
        for name in ("server.key", "server.pem"):
            shutil.copy(certificates / name, tmp_path)
        wait_until(lambda: served_certificate(gateway.url, certificates) != first)
        with gateway.client(shop, tls=qc.Tls(ca, pem, key)) as client:
            assert client.extract(title(0), ATTRIBUTES).weights_version == 1
    assert "the certificate stays as it was" in log(tmp_path)


def served_certificate(url: str, certificates: Path) -> bytes:
    """The certificate that a new connection gets."""
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    context.load_cert_chain(certificates / "client.pem", certificates / "client.key")
    context.set_alpn_protocols(["h2"])
    host, _, port = url.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=60) as sock,
        context.wrap_socket(sock, server_hostname=host) as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""


def test_a_certificate_that_does_not_fit_is_refused_at_once(live: Live, folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "keys.json", tmp_path)
    tls = {"certificate": "none.pem", "key": "none.key"}
    with pytest.raises(CertificateError, match=r"none\.pem"), gated(live, tmp_path, tls=tls):
        pass

# SPDX-License-Identifier: Apache-2.0
"""Members behind other servers' APIs, on a real server: whatever those do, the others answer in time."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from support.command import quorum, quorum_json
from support.deployment import ATTRIBUTES, title, write_deployment
from support.fault_server import FAULTS, MODEL, FaultServer, fault_server, has_openssl, make_certificates
from support.raw import bytes_tensor, grpc_request
from support.supervised import Supervised, supervised, until
from support.wire import Reply, grpc_reply
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from quorum.runtimes.remote.note import RemoteState
from quorum.server.workers import endpoints_of
from quorum_contract import Status

logger = logging.getLogger(__name__)

LONG = bool(os.environ.get("QUORUM_LONG"))
KEY = "sk-made-up-e2e-0123456789-zyxwvutsrq"
PER_S, FAULT_S = 20, 10.0 if LONG else 2.0
DEADLINE_S, MEMBER_TIMEOUT_S = 15.0, 1.5
SHORT = ("429", "429 with retry-after", "500", "hang", "cut stream", "wrong json", "huge", "refusal")
PASSING = {"wrong schema", "no end", "refusal", "filtered", "cut by length", "huge", "empty choices", "400"}
"""Faults that keep no breaker open: the server answers, or refuses this question alone."""
SLOW = ("hang", "slow bytes", "endless")
OTHERS = ("alpha", "beta")
pytestmark = [
    pytest.mark.timeout(900 if LONG else 300),
    pytest.mark.skipif(not has_openssl, reason="no openssl on this machine"),
]


@dataclass
class Setting:
    """A served deployment, and the server that its member `remote` asks."""

    served: Supervised
    remote: FaultServer
    replies: list[tuple[float, Reply | str]] = field(default_factory=list)

    def state(self) -> RemoteState:
        """What `quorum status` shows of the member."""
        return endpoints_of(self.served.running.pid)["remote"]

    def ask_for(self, seconds: float) -> list[tuple[float, Reply | str]]:
        """Ask at a fixed rate; seconds that each answer took, and the answer or the error."""
        found: list[tuple[float, Reply | str]] = []
        lock = threading.Lock()
        with grpc.insecure_channel(self.served.running.endpoint.grpc_url) as channel:
            stub = GRPCInferenceServiceStub(channel)

            def ask(number: int) -> None:
                began = time.monotonic()
                reply: Reply | str
                try:
                    reply = grpc_reply(stub.ModelInfer(_request(number), timeout=DEADLINE_S))
                except grpc.RpcError as error:
                    reply = str(error)
                with lock:
                    found.append((time.monotonic() - began, reply))

            begin = time.monotonic()
            with ThreadPoolExecutor(PER_S * int(DEADLINE_S)) as pool:
                for number in range(int(seconds * PER_S)):
                    time.sleep(max(0.0, begin + number / PER_S - time.monotonic()))
                    pool.submit(ask, number)
        return found

    def answers_again(self, seconds: float) -> float:
        """Wait until `remote` answers; how long that took."""
        began = time.monotonic()
        while True:
            for _, reply in self.ask_for(1 / PER_S):
                if isinstance(reply, Reply) and {s for _, s in reply.votes["remote"]} == {Status.ANSWERED}:
                    return time.monotonic() - began
            assert time.monotonic() - began < seconds, self.state()
            time.sleep(0.05)


def _request(number: int) -> Any:
    attributes = [a.encode() for a in ATTRIBUTES]
    text = bytes_tensor([title(number % 24).encode()])
    return grpc_request("quorum", text, attributes, b"shoes" if number % 2 else b"")


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    """`remote` has faults; `nowhere` has no address; `untrusted` has a certificate of no known authority."""
    folder = tmp_path_factory.mktemp("openai")
    certificates = make_certificates(tmp_path_factory.mktemp("certificates"))
    with fault_server() as (remote, url), fault_server(certificates, "stranger") as (_, strange):

        def member(url: str, **options: Any) -> dict[str, Any]:
            given = {"base_url": url, "model": MODEL, "max_wait_s": 0.5, **options}
            return {"runtime": "openai", "options": given, "timeout_s": MEMBER_TIMEOUT_S}

        members: dict[str, Any] = {
            "remote": member(url, api_key_env="QUORUM_E2E_KEY"),
            "nowhere": member("http://nowhere.invalid/v1"),
            "untrusted": member(strange),
            **{name: {} for name in OTHERS},
        }
        remote.values = {"brand": "acme", "color": "red", "size": "42"}
        write_deployment(folder, members)
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("QUORUM_E2E_KEY", KEY)
            with supervised(folder) as served:
                yield Setting(served, remote)


def check_others_answered(replies: list[tuple[float, Reply | str]], asked: int) -> None:
    assert len(replies) == asked
    errors = [reply for _, reply in replies if isinstance(reply, str)]
    assert not errors, errors[0]
    assert max(took for took, _ in replies) < DEADLINE_S
    for _, reply in replies:
        assert isinstance(reply, Reply)
        assert all(reply.values)
        for name in OTHERS:
            assert {status for _, status in reply.votes[name]} == {Status.ANSWERED}
        for name in ("nowhere", "untrusted"):
            assert {status for _, status in reply.votes[name]} <= {Status.ERROR, Status.TIMEOUT}


def test_a_remote_member_votes(setting: Setting) -> None:
    setting.answers_again(60)
    (found,) = setting.ask_for(1 / PER_S)
    reply = found[1]
    assert isinstance(reply, Reply)
    assert [value for value, _ in reply.votes["remote"]] == ["acme", "red", "42"]
    assert all(score is not None for score in reply.scores["remote"])
    until(lambda: setting.state().endpoints[0].answered)
    (shown,) = quorum_json(setting.served.folder, "status")["endpoints"]["remote"]["endpoints"]
    assert (shown["state"], shown["scores"]) == ("closed", True)
    assert shown["cached_tokens"] == 64 * shown["answered"]
    out, _ = quorum(setting.served.folder, "status")
    assert "nowhere.invalid" in out
    assert "ConnectError" in out
    narrow, _ = quorum(setting.served.folder, "status", COLUMNS="80")
    for endpoint in setting.state().endpoints:
        assert f"endpoint {endpoint.url} of remote" in narrow, "no cut in its address"


@pytest.mark.parametrize("fault", FAULTS if LONG else SHORT)
def test_the_others_answer_whatever_a_server_does(setting: Setting, fault: str) -> None:
    setting.answers_again(90)
    time.sleep(1.1)
    before, state_before = len(setting.remote.requests), setting.state()
    setting.remote.fault = fault
    setting.remote.redirect_to = "http://127.0.0.1:9/"
    replies = setting.ask_for(FAULT_S)
    setting.remote.fault = ""
    check_others_answered(replies, int(FAULT_S * PER_S))
    asked_before = state_before.questions
    until(lambda: setting.state().questions - asked_before >= len(replies))
    sent, asked = len(setting.remote.requests) - before, setting.state().questions - asked_before
    # Of all questions so far: what earlier ones saved may be spent now.
    assert len(setting.remote.requests) <= 1.1 * setting.state().questions + 1
    (endpoint,) = setting.state().endpoints
    statuses = Counter(s for _, r in replies if isinstance(r, Reply) for _, s in r.votes["remote"])
    if fault not in PASSING and not fault.startswith(("429", "503")):
        # Where each takes its whole time, few failures are known so soon: few at once are sent then.
        if LONG or fault not in SLOW:
            assert endpoint.opened > state_before.endpoints[0].opened, (fault, endpoint)
        assert sent < len(replies) / 2, "requests are kept back"
    # The pause before a probe doubles: the last began within the fault, and was as long as all before.
    took = setting.answers_again(2 * FAULT_S + 5)
    shown = {Status(status).name: count for status, count in statuses.items()}
    logger.info("%s: %d answered, %d requests for %d questions, back in %.2f s, remote %s",
                fault, len(replies), sent, asked, took, shown)  # fmt: skip


def test_the_key_is_in_no_file_and_no_process_list(setting: Setting) -> None:
    setting.remote.fault = "401"
    setting.ask_for(0.5)
    setting.remote.fault = ""
    folder, server = setting.served.folder, psutil.Process(setting.served.running.pid)
    scratch = Path(server.environ()["QUORUM_SERVER_FOLDER"])
    assert {one["headers"]["authorization"] for one in setting.remote.requests} == {f"Bearer {KEY}"}
    shown = [*quorum(folder, "status"), *quorum(folder, "status", "--json"), *quorum(folder, "validate")]
    found = [path for root in (folder, scratch) for path in root.rglob("*")]
    # Not Triton's own libraries.
    files = [path for path in found if path.is_file() and path.stat().st_size < 1 << 22]
    assert any(path.name.startswith("endpoints-remote.") for path in files)
    for text in (*shown, *(path.read_bytes().decode("latin-1") for path in files)):
        assert KEY not in text
        assert KEY[:12] not in text
    for process in psutil.process_iter(["cmdline"]):
        assert not any(KEY in word for word in process.info["cmdline"] or ())


def test_up_says_that_the_key_is_missing(setting: Setting, tmp_path: Path) -> None:
    options = {"base_url": "https://api.example.com/v1", "model": "m", "api_key_env": "QUORUM_NO_SUCH_KEY"}
    write_deployment(tmp_path, {"paid": {"runtime": "openai", "options": options}, "alpha": {}})
    quorum(tmp_path, "render")
    _, err = quorum(tmp_path, "validate")
    assert "QUORUM_NO_SUCH_KEY is not set" in err
    _, err = quorum(tmp_path, "up", code=1)
    assert "members[0].options.api_key_env" in err
    assert "QUORUM_NO_SUCH_KEY is not set" in err

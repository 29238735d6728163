# SPDX-License-Identifier: Apache-2.0
"""The runtime ``openai`` over real sockets: keys, TLS, cookies, redirects, proxies."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.fault_server import (
    FaultServer,
    fault_server,
    free_port,
    has_openssl,
    make_certificates,
)
from support.openai_members import RIGHT, ask_one, member, state_of

from quorum.runtimes.base import Generated, RuntimeConfigError, Unsent
from quorum_contract import Status

KEY = "sk-made-up-0123456789-abcdefghij"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not has_openssl:
        pytest.skip("no openssl on this machine")
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def test_tls_is_verified_by_an_authority_of_ones_own(certificates: Path) -> None:
    with fault_server(certificates) as (server, url):
        server.values = dict(RIGHT)
        with member(url, ca_file="ca.pem", root=certificates) as runtime:
            assert isinstance(ask_one(runtime), Generated)
        for options in ({"ca_file": "stranger.pem"}, {}):
            with member(url, root=certificates, **options) as runtime:
                assert ask_one(runtime) == Unsent(Status.ERROR)
                assert "certificate" in str(state_of(runtime)["problem"]).lower()
    with (
        fault_server(certificates, "stranger") as (_, url),
        member(url, ca_file="ca.pem", root=certificates) as runtime,
    ):
        assert ask_one(runtime) == Unsent(Status.ERROR)


def test_the_key_is_sent_and_shown_nowhere(
    served: tuple[FaultServer, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    server, url = served
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("QUORUM_TEST_KEY", KEY)
    monkeypatch.setenv("QUORUM_SERVER_FOLDER", str(tmp_path))
    with member(url, api_key_env="QUORUM_TEST_KEY") as runtime:
        assert isinstance(ask_one(runtime), Generated)
        assert {one["headers"]["authorization"] for one in server.requests} == {f"Bearer {KEY}"}
        for server.fault in ("401", "400", "500", "429", "404"):
            ask_one(runtime, 2.0)
        time.sleep(1.2)
        written = "".join(path.read_text() for path in tmp_path.iterdir())
        assert "you sent" in written, "the server repeats the key in its errors"
        assert KEY not in written + caplog.text + repr(runtime.__dict__) + str(runtime._caller.state())
        assert KEY[:8] not in written + caplog.text


def test_a_key_file_is_read_again_after_a_refusal(served: tuple[FaultServer, str], tmp_path: Path) -> None:
    server, url = served
    (tmp_path / "key").write_text("old-key-of-last-week\n")
    with member(url, api_key_file="key", root=tmp_path) as runtime:
        (tmp_path / "key").write_text("new-key-of-this-week\n")
        server.fault = "401"
        ask_one(runtime)
        server.fault = ""
        assert isinstance(ask_one(runtime), Generated)
    sent = [one["headers"]["authorization"] for one in server.requests]
    assert (sent[0], sent[-1]) == ("Bearer old-key-of-last-week", "Bearer new-key-of-this-week")


def test_cookies_are_not_kept(served: tuple[FaultServer, str]) -> None:
    server, url = served
    with member(url) as runtime:
        for _ in range(2):
            assert isinstance(ask_one(runtime), Generated)
    assert len(server.requests) == 2
    assert not [one for one in server.requests if "cookie" in {name.lower() for name in one["headers"]}]


def test_redirects_are_not_followed(served: tuple[FaultServer, str], monkeypatch: pytest.MonkeyPatch) -> None:
    server, url = served
    monkeypatch.setenv("QUORUM_TEST_KEY", KEY)
    with fault_server() as (elsewhere, other), member(url, api_key_env="QUORUM_TEST_KEY") as runtime:
        server.fault, server.redirect_to = "redirect", f"{other}/chat/completions"
        assert ask_one(runtime) is Status.ERROR
        assert "redirects" in str(state_of(runtime)["problem"])
        assert elsewhere.requests == []


@contextmanager
def listening() -> Iterator[tuple[int, list[bytes]]]:
    """Takes connections, and keeps what they send first."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def take() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(2)
                received.append(connection.recv(65_536))

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield listener.getsockname()[1], received
        thread.join()


def test_a_proxy_is_only_tunnelled_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUORUM_TEST_KEY", KEY)
    with listening() as (port, received):
        proxy = f"http://127.0.0.1:{port}"
        options = {"api_key_env": "QUORUM_TEST_KEY", "proxy": proxy}
        with member("https://api.example.invalid/v1", **options) as runtime:
            assert ask_one(runtime) is Status.ERROR
    assert received[0].startswith(b"CONNECT api.example.invalid:443")
    assert KEY.encode() not in received[0]


def test_proxies_of_the_environment_are_not_used(
    served: tuple[FaultServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with member(served[1]) as runtime:
        assert isinstance(ask_one(runtime), Generated)


def test_a_missing_key_is_named_at_the_start() -> None:
    with (
        pytest.raises(RuntimeConfigError, match="api_key_env: the environment variable QUORUM_NO_KEY"),
        member("https://api.example.com/v1", api_key_env="QUORUM_NO_KEY"),
    ):
        pass

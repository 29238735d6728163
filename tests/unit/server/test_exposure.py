# SPDX-License-Identifier: Apache-2.0
"""Addresses that only this machine reaches, and keys that a gateway can check."""

from __future__ import annotations

import pytest

from quorum.deployment.server import ServerSpec
from quorum.server.exposure import (
    INFERENCE_KEY_VARIABLE,
    ExposedError,
    check_exposed,
    client_key,
    gateway_key,
    is_loopback,
)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.5.5.5", "localhost", "::1"])
def test_loopback_is_for_this_machine(host: str) -> None:
    assert is_loopback(host)
    check_exposed(ServerSpec(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "no-such-host.invalid"])
def test_every_other_address_needs_a_word_of_the_operator(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ExposedError, match=host):
        check_exposed(ServerSpec(host=host))
    check_exposed(ServerSpec(host=host, trusted_network=True))


def test_an_empty_variable_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INFERENCE_KEY_VARIABLE, "")
    assert client_key() is None
    assert gateway_key() is None


@pytest.mark.parametrize("key", ["fifteen-letters", "with spaces and enough letters", "ä" * 20, "tab\t" * 8])
def test_a_gateway_takes_no_key_that_cannot_serve(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv(INFERENCE_KEY_VARIABLE, key)
    with pytest.raises(ExposedError) as caught:
        gateway_key()
    assert key not in str(caught.value)


def test_a_good_key_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INFERENCE_KEY_VARIABLE, "0123456789abcdef")
    assert gateway_key() == client_key() == "0123456789abcdef"

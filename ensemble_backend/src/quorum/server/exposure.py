# SPDX-License-Identifier: Apache-2.0
"""Decide at which addresses a server may listen, and read the key of callers."""

from __future__ import annotations

import ipaddress
import os
import socket

from quorum.deployment.server import ServerSpec
from quorum.gateway.settings import INFERENCE_KEY_VARIABLE as INFERENCE_KEY_VARIABLE
from quorum_contract.errors import QuorumError

TRUSTED_NETWORK_VARIABLE = "QUORUM_TRUSTED_NETWORK"
LOOPBACK = "127.0.0.1"
_KEY_LENGTH = 16


class ExposedError(QuorumError, RuntimeError):
    """Others would reach the server and nothing checks who they are; the message names the choices."""

    code = "SERVER_EXPOSED"


def client_key() -> str | None:
    """The inference key that commands send, from the environment; None without one."""
    return os.environ.get(INFERENCE_KEY_VARIABLE) or None


def gateway_key() -> str | None:
    """The inference key that the gateway checks, from the environment; None: there is none.

    Raises:
        ExposedError: The key is too short, or cannot be sent as a header.
    """
    key = client_key()
    if key is None:
        return None
    if len(key) < _KEY_LENGTH or not key.isascii() or not key.isprintable() or " " in key:
        raise ExposedError(
            f"{INFERENCE_KEY_VARIABLE}: use at least {_KEY_LENGTH} letters, digits and signs of ASCII, no "
            "spaces, such as `openssl rand -hex 24` prints"
        )
    return key


def check_exposed(server: ServerSpec) -> None:
    """Refuse an address that other machines can reach, unless the deployment calls its network trusted.

    Raises:
        ExposedError: Any caller who reaches the address could stop the server.
    """
    if server.trusted_network or is_loopback(server.host):
        return
    raise ExposedError(
        f"server.host {server.host}: other machines could reach Triton there, and any caller can stop it; "
        f"choose: 127.0.0.1; or set {INFERENCE_KEY_VARIABLE}, and a gateway that checks it listens there "
        f"instead of Triton; or, if all who can reach the address are trusted, server.trusted_network: true "
        f"in deploy.yaml (in containers: {TRUSTED_NETWORK_VARIABLE}=1)"
    )


def is_loopback(host: str) -> bool:
    """Whether an address, or every address of a name, can be reached from this machine only."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found)

# SPDX-License-Identifier: Apache-2.0
"""A canned question to a channel: the only readiness that tells the truth.

Triton reports a model with a dead process as ready, and a server that is loading something as not ready.
"""

from __future__ import annotations

import time

from quorum.spec.model import Deployment
from quorum_client import Client, Overloaded

_TEXT = "quorum probe: is anybody there?"
_RETRY_S = 0.25


def probe_channel(spec: Deployment, url: str, channel: str, timeout_s: float = 20.0) -> int:
    """Ask a channel one question; that members abstain does not matter.

    Args:
        spec: The deployment; its first attribute is asked for.
        url: ``host:port`` of the gRPC endpoint.
        channel: Name of an ensemble.
        timeout_s: How long to wait for the answer.

    Returns:
        The version of the weights that answered.

    Raises:
        quorum_client.QuorumError: No answer, or not one of this deployment.
    """
    attribute = next(iter(spec.attributes), "brand")
    deadline = time.monotonic() + timeout_s
    with Client(url, timeout_s=timeout_s) as client:
        while True:
            try:
                return client.extract(_TEXT, [attribute], channel=channel).weights_version
            except Overloaded:
                # A full gate says nothing about the channel behind it.
                if time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_S)

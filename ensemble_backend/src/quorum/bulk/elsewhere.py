# SPDX-License-Identifier: Apache-2.0
"""Describe the deployment of a server of which nothing but the address is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quorum.bulk.ask import NoAttributesError
from quorum.deployment.schema import Deployment
from quorum.server.exposure import client_key
from quorum_client import Client
from quorum_contract import STABLE
from quorum_contract.names import PROBE_TEXT

_PROBE_S = 20.0


def deployment_at(
    url: str, attributes: Sequence[str] | None, channel: str = STABLE, *, lazy: bool = False
) -> Deployment:
    """The deployment at an address, as far as it can be asked: its members, and attributes without settings.

    No LLM is asked.

    Args:
        url: ``host:port``.
        attributes: To ask for; what the catalogue says of them is known to the server alone.
        channel: The ensemble to ask for its members.
        lazy: Whether lazy channels are asked.

    Raises:
        NoAttributesError: No attribute is named.
        quorum_client.QuorumError: The server does not answer.
    """
    if not attributes:
        raise NoAttributesError("no attributes: without a deploy.yaml, name them with --attributes a,b")
    with Client(url, timeout_s=_PROBE_S, key=client_key()) as client:
        extraction = client.extract(PROBE_TEXT, list(attributes)[:1], channel=channel, members_timeout_s=0.0)
    # Of its runtimes and options nothing is known, and nothing is asked here.
    unknown = {"runtime": "replay", "options": {"votes": "unknown"}}
    return Deployment.model_validate(
        {
            "attributes": {name: {} for name in attributes},
            "members": [{"name": vote.member, **unknown} for vote in extraction.answers[0].votes],
            "lazy": {} if lazy else None,
            "path": Path("deploy.yaml"),
        }
    )

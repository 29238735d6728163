# SPDX-License-Identifier: Apache-2.0
"""Describe the deployment of a server of which nothing but the address is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quorum.bulk.ask import NoAttributesError
from quorum.bulk.callbacks import Note, ignore
from quorum.bulk.patience import wait_for
from quorum.deployment.schema import Deployment
from quorum.server.exposure import client_key
from quorum_client import Client, Extraction
from quorum_contract import STABLE
from quorum_contract.names import PROBE_TEXT


def deployment_at(
    url: str,
    attributes: Sequence[str] | None,
    channel: str = STABLE,
    *,
    lazy: bool = False,
    patience_s: float = 0.0,
    note: Note = ignore,
) -> Deployment:
    """The deployment at an address, as far as it can be asked: its members, and attributes without settings.

    No LLM is asked.

    Args:
        url: ``host:port``.
        attributes: To ask for; what the catalogue says of them is known to the server alone.
        channel: The ensemble to ask for its members.
        lazy: Whether lazy channels are asked.
        patience_s: How long to wait for a server that does not answer, seconds.
        note: Takes remarks about the wait.

    Raises:
        NoAttributesError: No attribute is named.
        quorum_client.QuorumError: The server does not answer within that time.
    """
    if not attributes:
        raise NoAttributesError("no attributes: without a deploy.yaml, name them with --attributes a,b")
    names = list(attributes)[:1]

    def ask(timeout_s: float) -> Extraction:
        with Client(url, timeout_s=timeout_s, key=client_key()) as client:
            return client.extract(PROBE_TEXT, names, channel=channel, members_timeout_s=0.0)

    extraction = wait_for(ask, patience_s, note)
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

# SPDX-License-Identifier: Apache-2.0
"""Rollouts on a real server: weights by which one member decides, and a channel's versions over time."""

from __future__ import annotations

import itertools
from pathlib import Path

from support.deployment import ATTRIBUTES, Live, title, write_deployment

from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights
from quorum.rollout.channels import Rollout
from quorum.server.probe import probe_channel

MEMBERS = ("alpha", "beta", "gamma")
_NUMBERS = itertools.count()


def write_split(folder: Path, **more: object) -> Path:
    """A deployment of :data:`MEMBERS` in which each always says that it was it: answers name who decides."""
    rows = [
        {
            "product": f"p{p}",
            "category": "",
            "title": title(p),
            "attribute": attribute,
            "gold": [],
            "votes": {member: f"{member}'s" for member in MEMBERS},
        }
        for p in range(24)
        for attribute in ATTRIBUTES
    ]
    return write_deployment(folder, {name: {} for name in MEMBERS}, rows=rows, **more)  # type: ignore[arg-type]


def trusting(catalogue_hash: str, member: str, number: int | None = None) -> Weights:
    """Weights by which ``member`` alone decides; never the same twice, so each becomes a new version."""
    heavy = tuple(2.0 if name == member else 0.5 for name in MEMBERS)
    settings = {"number": next(_NUMBERS) if number is None else number}
    return Weights("majority", MEMBERS, Parameters(heavy), catalogue_hash=catalogue_hash, settings=settings)


def rollout_of(live: Live) -> Rollout:
    """A rollout on a running server and its repository."""
    return Rollout(live.spec, live.control, lambda channel: probe_channel(live.spec, live.url, channel))

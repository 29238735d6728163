# SPDX-License-Identifier: Apache-2.0
"""Rollouts on a real server: weights by which one member decides, and a channel's versions over time."""

from __future__ import annotations

from pathlib import Path

from support.deployment import ATTRIBUTES, Live, title, write_deployment

from quorum.rollout.channels import Rollout
from quorum.server.probe import probe_channel
from quorum_bench.studies.redeploys import MEMBERS, trusting

__all__ = ["MEMBERS", "rollout_of", "trusting", "write_split"]


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


def rollout_of(live: Live) -> Rollout:
    """A rollout on a running server and its repository."""
    return Rollout(live.spec, live.control, lambda channel: probe_channel(live.spec, live.url, channel))

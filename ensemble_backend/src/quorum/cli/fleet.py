# SPDX-License-Identifier: Apache-2.0
"""The servers of a deployment: the fleet that the spec names, else the one of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from quorum.deployment.schema import Deployment
from quorum.repository.store import Store
from quorum.rollout.fleet import by_repository
from quorum.server.control import Control, ControlError
from quorum.server.probe import take_pulse
from quorum.server.runfile import endpoint_of, find_running
from quorum_contract import CHANNELS, VOTE


def servers_of(spec: Deployment) -> dict[Path, list[str]]:
    """Repository -> addresses of the servers that read it, in the order of the spec.

    Raises:
        RolloutError: A DNS name does not resolve.
    """
    return by_repository(_servers(spec))


def store_of(spec: Deployment) -> Store:
    """The repository that commands look at: what the server here serves; in a fleet, the first server's."""
    return Store(_servers(spec)[0][1])


def _servers(spec: Deployment) -> list[tuple[str, Path]]:
    if spec.fleet:
        return [(s.grpc, spec.root / (s.repository or spec.repository)) for s in spec.fleet]
    running = find_running(spec)
    return [(endpoint_of(spec).grpc_url, running.repository if running else spec.repository_path)]


def channel_status(spec: Deployment, url: str, channel: str, pinned: int | None) -> dict[str, Any]:
    """Whether a channel answers, and with which version."""
    pulse = take_pulse(spec, url, channel)
    found = {"pinned": pinned, "answers": pulse.ready, "version": pulse.version}
    return found | ({"reason": pulse.reason} if pulse.reason else {})


def fleet_status(spec: Deployment) -> dict[str, Any]:
    """Address -> who runs what there: versions loaded, and what each channel answers with."""
    found = {}
    for repository, addresses in servers_of(spec).items():
        pins = Store(repository).pins()
        for url in addresses:
            channels = {c: channel_status(spec, url, c, pins.get(c)) for c in CHANNELS}
            found[url] = {"repository": str(repository), "channels": channels} | _loaded(spec, url)
    return found


def _loaded(spec: Deployment, url: str) -> dict[str, Any]:
    try:
        with Control(url, endpoint_of(spec).admin_key, timeout_s=5) as control:
            ready = [int(s.version) for s in control.index() if s.name == VOTE and s.state == "READY"]
        return {"loaded": sorted(ready)}
    except ControlError as error:
        return {"loaded": [], "reason": str(error)}


def fleet_table(report: dict[str, Any]) -> Table:
    """One row per server."""
    table = Table("server", *CHANNELS, "loaded", "repository")
    for url, server in report.items():
        cells = [_cell(server["channels"][channel]) for channel in CHANNELS]
        loaded = Text(", ".join(map(str, server["loaded"])) or server.get("reason", "none"))
        table.add_row(url, *cells, loaded, server["repository"])
    return table


def _cell(channel: dict[str, Any]) -> Text:
    if not channel["answers"]:
        return Text.assemble(("no ", "red"), channel["reason"])
    if channel["version"] == channel["pinned"]:
        return Text(str(channel["version"]), "green")
    return Text(f"{channel['version']}, pinned to {channel['pinned']}", "red")

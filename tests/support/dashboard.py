# SPDX-License-Identifier: Apache-2.0
"""The Grafana dashboard as it is committed: its panels, and queries that Prometheus takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"
DASHBOARD = FOLDER / "quorum.json"


class Shown(NamedTuple):
    """A query of a panel; ``expr`` has Grafana's variables."""

    row: str
    panel: str
    form: str
    unit: str
    expr: str
    legend: str

    def filled(self, interval: str) -> str:
        """The expression as Grafana sends it, for all servers."""
        return self.expr.replace("$instance", ".*").replace("$__rate_interval", interval)


def shown() -> list[Shown]:
    """Every query of every panel, from the committed file."""
    board: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    row, found = "", []
    for panel in board["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
            continue
        unit = panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            query = target["expr"], target["legendFormat"]
            found.append(Shown(row, panel["title"], panel["type"], unit, *query))
    return found

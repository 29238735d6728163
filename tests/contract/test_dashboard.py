# SPDX-License-Identifier: Apache-2.0
"""The Grafana dashboard is what its script makes, shows every metric, and Prometheus reads its queries."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
from pathlib import Path

import pytest
import yaml
from support.dashboard import DASHBOARD, FOLDER, shown
from support.prometheus import needed

from quorum.serving.families import FAMILIES

_VARIABLES = {"$datasource", "$instance", "$__rate_interval"}


def test_the_committed_dashboard_is_what_its_script_makes() -> None:
    made = runpy.run_path(str(FOLDER / "dashboard.py"))["dashboard"]()
    assert DASHBOARD.read_text("utf-8") == made


def test_every_metric_is_shown_and_exists_with_its_labels() -> None:
    parts = {f"{name}_{part}": name for name in FAMILIES for part in ("bucket", "sum", "count")}
    used = set()
    for query in shown():
        bare = re.sub(r'"[^"]*"', '""', query.expr)
        names = {parts.get(name, name) for name in re.findall(r"\bquorum_\w+", bare)}
        assert names <= FAMILIES.keys(), query
        labels = {label for name in names for label in FAMILIES[name].labels} | {"instance", "le"}
        grouped = {one.strip() for group in re.findall(r"by \(([^)]*)\)", bare) for one in group.split(",")}
        matched = set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", bare))
        legend = set(re.findall(r"{{(\w+)}}", query.legend))
        assert grouped | matched | legend <= labels, query
        assert legend <= grouped, query
        used |= names
    assert used == FAMILIES.keys()


def test_panels_fit_side_by_side_and_know_only_variables_that_are_defined() -> None:
    text = DASHBOARD.read_text("utf-8")
    board = json.loads(text)
    defined = {f"${one['name']}" for one in board["templating"]["list"]} | {"$__rate_interval"}
    assert set(re.findall(r"\$\w+", text)) == defined == _VARIABLES
    taken: set[tuple[int, int]] = set()
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in board["panels"]:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert columns[-1] < 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("interval", ["1m", "4h"])
def test_prometheus_reads_every_query(interval: str, tmp_path: Path) -> None:
    rules = [{"record": f"query:{at}", "expr": query.filled(interval)} for at, query in enumerate(shown())]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [needed("promtool"), "check", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

# SPDX-License-Identifier: Apache-2.0
"""A run over a file outlives its server, which ``quorum up`` starts again."""

from __future__ import annotations

import csv
import io
import json
import signal
from pathlib import Path

from support.command import start
from support.deployment import title, write_deployment
from support.supervised import supervised, until

MEMBERS = {"alpha": {"options": {"latency_ms": 50, "latency_shape": "constant"}}, "beta": {}}
ROWS, IN_FLIGHT = 400, 8


def test_only_the_rows_in_flight_are_lost_with_the_server(tmp_path: Path) -> None:
    write_deployment(tmp_path, MEMBERS)
    rows = [{"product": f"r{n}", "title": title(n % 24)} for n in range(ROWS)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    out = tmp_path / "out.csv"
    with supervised(tmp_path) as up:
        options = ("--out", "out.csv", "--concurrency", str(IN_FLIGHT), "--json")
        run = start(tmp_path, "extract", "in.jsonl", *options)
        until(lambda: out.exists() and len(out.read_text("utf-8").splitlines()) > 3 * IN_FLIGHT)
        up.strike("server", signal.SIGKILL)
        printed, said = run.communicate(timeout=120)
        report = json.loads(printed)
        # One more may look whether the server is there before the connection is known to be dead.
        assert report["failed"] <= IN_FLIGHT + 1, said
        assert (report["answered"] + report["failed"], report["left"]) == (ROWS, 0)
        assert "as the server is away" in said
        assert "goes on after a wait" in said
        answers = list(csv.DictReader(io.StringIO(out.read_text("utf-8"))))
        assert [row["product"] for row in answers] == [row["product"] for row in rows]
        assert sum(bool(row["error"]) for row in answers) == report["failed"]

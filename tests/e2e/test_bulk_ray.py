# SPDX-License-Identifier: Apache-2.0
"""A job on a real Ray cluster: two nodes and two servers, one of each killed in the middle."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support import ray_env
from support.command import quorum
from support.deployment import Live, running, title, write_deployment
from support.supervised import until

PART_ROWS, PARTS = 50, 48
ROWS = PART_ROWS * PARTS
MEMBERS = {"alpha": {"options": {"latency_ms": 40, "latency_shape": "constant"}}, "beta": {}, "gamma": {}}
IN_FLIGHT = 8


def write_input(folder: Path) -> None:
    with (folder / "in.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["product", "category", "title"])
        rows.writerows([f"r{n}", "shoes" if n % 2 else "", title(n % 24)] for n in range(ROWS))


def command(cluster: ray_env.RayCluster, servers: list[Live]) -> list[str]:
    return [
        *("extract", "in.csv", "--out", "out.csv", "--votes", "found.jsonl"),
        *("--engine", "ray", "--ray-address", cluster.address),
        *("--servers", ",".join(live.url for live in servers)),
        *("--part-rows", str(PART_ROWS), "--concurrency", str(IN_FLIGHT), "--patience", "20s"),
        *("--progress-every", "5s", "--json"),
    ]


def committed(folder: Path) -> int:
    return len(list((folder / "out.csv.job" / "parts").glob("??????.json")))


def check_outputs(folder: Path, server: Live) -> None:
    """Every row is there once, in its place, as a job on one machine writes it."""
    quorum(folder, "extract", "in.csv", "--out", "local.csv", "--url", server.url)
    assert (folder / "out.csv").read_bytes() == (folder / "local.csv").read_bytes()
    votes = [json.loads(line) for line in (folder / "found.jsonl").read_text("utf-8").splitlines()]
    cells = [(vote["product"], vote["attribute"]) for vote in votes]
    assert len(cells) == len(set(cells)) == 3 * ROWS


@ray_env.LONG
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_node_and_a_killed_server_leave_a_job_with_every_row_once(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    write_input(tmp_path)
    first, second = tmp_path / "first", tmp_path / "second"
    write_deployment(tmp_path, MEMBERS)
    with (
        ray_env.cluster() as cluster,
        running(write_deployment(first, MEMBERS)) as staying,
        running(write_deployment(second, MEMBERS)) as dying,
    ):
        job = command(cluster, [staying, dying])
        run = ray_env.start(tmp_path, *job)
        until(lambda: run.poll() is not None or committed(tmp_path) >= PARTS // 4, 300)
        assert run.poll() is None, run.communicate()
        assert cluster.kill(0) == 1
        os.kill(dying.server.pid, signal.SIGKILL)
        at_kill = committed(tmp_path)
        runs = 1
        out, said_ = run.communicate(timeout=600)
        while run.returncode != 0 and runs < 4:
            assert run.returncode in (1, 75), said_
            run = ray_env.start(tmp_path, *job)
            out, said_ = run.communicate(timeout=600)
            runs += 1
        assert run.returncode == 0, said_
        report = json.loads(out)
        assert (report["ended"], report["answered"]) == ("complete", ROWS)
        assert PARTS // 4 <= at_kill < PARTS
        check_outputs(tmp_path, staying)
        record_property("parts at the kill", at_kill)
        record_property("runs", runs)

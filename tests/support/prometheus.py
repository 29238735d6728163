# SPDX-License-Identifier: Apache-2.0
"""Metrics as scrapers read them: a page as numbers, and a real Prometheus where there is one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.fault_server import free_port
from support.supervised import until

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "quorum.rules.yml"
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\\\]|\\\\.)*)"')
Numbers = dict[tuple[str, ...], float]


def needed(program: str) -> str:
    """The path of a program of Debian's package ``prometheus``; skips the test where it is missing."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"no {program} on this machine; `apt-get install prometheus` brings it")
    return found


def scrape(port: int, accept: str = "") -> str:
    """The page of metrics."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.read().decode())


def numbers(text: str) -> Numbers:
    """Name and label values, in the order of the page -> number."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels, number = _SAMPLE.fullmatch(line).groups()  # type: ignore[union-attr]
            found[(name, *(value for _, value in _LABEL.findall(labels or "")))] = float(number)
    return found


class Prometheus:
    """A Prometheus that scrapes ports of this machine once a second."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **query: str) -> Any:
        """The data of an answer of its API."""
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}") as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """What an expression gives now: labels and number."""
        found = self.get("query", query=expression)["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]


@contextmanager
def prometheus(folder: Path, *ports: int, **labels: str) -> Iterator[Prometheus]:
    """A real Prometheus with the rules of this repository, which adds labels; killed at the end."""
    program, port = needed("prometheus"), free_port()
    targets = [f"127.0.0.1:{one}" for one in ports]
    settings = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {"job_name": "quorum", "static_configs": [{"targets": targets, "labels": labels}]}
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield _ready(Prometheus(f"http://127.0.0.1:{port}"))
    finally:
        process.kill()
        process.wait()


def _ready(server: Prometheus) -> Prometheus:
    def answers() -> bool:
        try:
            return bool(server.get("targets", state="active")["activeTargets"])
        except OSError:
            return False

    until(answers, 60)
    return server

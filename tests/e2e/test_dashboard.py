# SPDX-License-Identifier: Apache-2.0
"""Queries of the dashboard and the autoscaler answer from a real Prometheus, over a server under load.

Only with ``QUORUM_LONG=1``. With ``QUORUM_PICTURE``, a path, it also draws the picture of the guide there.
"""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from support.dashboard import FOLDER, shown
from support.deployment import ATTRIBUTES, FREE_PORTS, title, write_deployment
from support.fault_server import MODEL, FaultServer, fault_server, free_port
from support.prometheus import Prometheus, prometheus
from support.raw import bytes_tensor, grpc_request
from support.supervised import Supervised, supervised, until
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

import quorum
from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights
from quorum_client import cancel_request
from quorum_contract import BULK, CHANNELS, LAZY_CHANNELS, PRIORITY

pytestmark = pytest.mark.skipif(not os.environ.get("QUORUM_LONG"), reason="minutes of load: QUORUM_LONG=1")
REPLAYED = ("alpha", "beta", "gamma")
MEMBERS = (*REPLAYED, "remote")
PER_S = 20.0
PHASE_S = 40.0
ADAPTER = FOLDER.parent / "helm" / "prometheus-adapter.yaml"


class Load:
    """Requests of all kinds at a steady rate, until it is stopped."""

    def __init__(self, url: str) -> None:
        self._channel = grpc.insecure_channel(url)
        self._stub = GRPCInferenceServiceStub(self._channel)
        self._over = threading.Event()
        self._random = random.Random(1)
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        begin, sent = time.monotonic(), 0
        while not self._over.wait(max(0.0, begin + sent / PER_S - time.monotonic())):
            sent += 1
            self._send(sent)

    def _send(self, number: int) -> None:
        channel = self._random.choices((*CHANNELS, *LAZY_CHANNELS), (60, 15, 20, 5))[0]
        text = " " if number % 40 == 0 else title(number % 24)
        attributes = [a.encode() for a in ATTRIBUTES]
        category = b"shoes" if number % 2 else b""
        request = grpc_request(channel, bytes_tensor([text.encode()]), attributes, category)
        request.id = f"load-{number}"
        if self._random.random() < 0.3:
            request.parameters[PRIORITY].string_param = BULK
        self._stub.ModelInfer.future(request, timeout=30)
        if number % 30 == 0:
            self._stub.ModelInfer.future(cancel_request(channel, request.id), timeout=5)

    def stop(self) -> None:
        """Send no more."""
        self._over.set()
        self.thread.join()
        self._channel.close()


@contextmanager
def loaded(folder: Path) -> Iterator[tuple[Supervised, FaultServer, int]]:
    """A server under load, its endpoint, and the port of its page."""
    port = free_port()
    with fault_server() as (remote, url):
        remote.delay_s = 0.03
        members: dict[str, Any] = {name: {} for name in REPLAYED}
        members["remote"] = {
            "runtime": "openai",
            "options": {"base_url": url, "model": MODEL, "max_wait_s": 0.5},
            "timeout_s": 2.0,
            "price": {"per_call": 0.0004, "per_1k_prompt_tokens": 0.001},
            "budget": {"calls_per_day": 20_000, "per_day": 10.0},
        }
        server = {**FREE_PORTS, "metrics": {"port": port}}
        write_deployment(folder, members, lazy={"rows": [[*REPLAYED], ["remote"]]}, server=server)
        with supervised(folder) as served:
            load = Load(served.running.endpoint.grpc_url)
            load.thread.start()
            try:
                yield served, remote, port
            finally:
                load.stop()


def events(served: Supervised, remote: FaultServer, scraper: Prometheus) -> None:
    """Let things happen that a dashboard must show: a rollout, and an endpoint that fails for a while."""
    time.sleep(PHASE_S)
    remote.fault, remote.share = "500", 1.0
    until(lambda: scraper.query('quorum_endpoint_breaker_state{state="open"} == 1'), 120)
    time.sleep(PHASE_S / 4)
    remote.fault = ""
    parameters = Parameters((3.0, 1.0, 1.0, 1.0))
    weights = Weights("loglinear", MEMBERS, parameters, catalogue=served.spec.catalogue().hashes)
    version = quorum.publish(served.spec, weights).version
    quorum.canary(served.spec, version, 0.2)
    time.sleep(PHASE_S)
    quorum.promote(served.spec, version)
    time.sleep(PHASE_S)


def test_every_panel_and_the_autoscaler_have_numbers(tmp_path: Path) -> None:
    with loaded(tmp_path / "served") as (served, remote, port):
        triton = served.running.endpoint.metrics_port
        (tmp_path / "prometheus").mkdir()
        with prometheus(tmp_path / "prometheus", port, triton, namespace="shop", pod="quorum-0") as scraper:
            began = time.time()
            events(served, remote, scraper)
            empty = [q for q in shown() if not scraper.query(q.filled("1m"))]
            assert empty == []
            wrong = [
                (query.panel, number)
                for query in shown()
                for _, number in scraper.query(query.filled("1m"))
                if query.unit == "percentunit"
                and not (math.isnan(number) or 0 <= number <= 1.0001)
                # Retries are not limited to one per question.
                and query.panel != "Requests beyond one per question"
            ]
            assert wrong == []
            for name, expr in scaling_queries().items():
                ((labels, number),) = scraper.query(expr)
                assert labels == {"pod": "quorum-0"}, name
                assert 0 <= number < 30, name
            picture = Path(os.environ.get("QUORUM_PICTURE") or tmp_path / "dashboard.png")
            minutes = f"{(time.time() - began) / 60:.2f}"
            span = ["--minutes", minutes, "--interval", "10s"]
            subprocess.run([sys.executable, FOLDER / "picture.py", scraper.url, picture, *span], check=True)
            assert picture.read_bytes().startswith(b"\x89PNG")


def scaling_queries() -> dict[str, str]:
    """The autoscaler's metrics as prometheus-adapter asks for them."""
    rules = yaml.safe_load(ADAPTER.read_text("utf-8"))["rules"]["custom"]
    matchers = 'namespace="shop",pod=~"quorum-0"'
    return {
        rule["name"]["as"]: rule["metricsQuery"]
        .replace("<<.LabelMatchers>>", matchers)
        .replace("<<.GroupBy>>", "pod")
        for rule in rules
    }

# SPDX-License-Identifier: Apache-2.0
"""Small deployments whose members replay a votes table, on a real tritonserver with free ports."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import yaml
from support.raw import bytes_tensor, grpc_request
from support.wire import Reply, grpc_reply
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from quorum.deployment import Deployment, load_deployment
from quorum.repository.configs import parse_config, vote_step
from quorum.repository.render import render
from quorum.repository.state import State
from quorum.repository.store import CONFIG_FILE, Store
from quorum.server.control import Control
from quorum.server.supervise import wait_channels
from quorum.server.triton import TritonServer
from quorum_contract import CANARY, CHANNELS, STABLE, VOTE

START_S = 90.0
FREE_PORTS = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}
WITH_HTTP: dict[str, Any] = {**FREE_PORTS, "http": True}
ATTRIBUTES = ("brand", "color", "size")
COLORS = ("red", "green", "blue", "n/a")
ROOT_ATTRIBUTES: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "deploy.yaml").read_text("utf-8")
)["attributes"]
"""The catalogue that the demo models know."""


def title(product: int) -> str:
    """Text of a product; some hold what texts hold in the wild."""
    return f'product {product} "größe" № {product} 👟'


def said(member: int, product: int, attribute: str) -> str:
    """What a member says of a product: now and then something of its own; member -1 is always right."""
    wrong = member >= 0 and (product + 1) % (member + 2) == 0
    match attribute:
        case "brand":
            return f"brand-{product}" if not wrong else f"other-{member % 2}-{product}"
        case "color":
            return COLORS[(product + (member + 1) * wrong) % len(COLORS)]
        case _:
            return str(36 + (product + wrong) % 9)


def table(members: Sequence[str], products: int = 24) -> list[dict[str, Any]]:
    """A votes table of made-up products."""
    return [
        {
            "product": f"p{p}",
            "category": "shoes" if p % 2 else "",
            "title": title(p),
            "attribute": attribute,
            "gold": [said(-1, p, attribute)] if p % 3 else [],
            "votes": {name: said(m, p, attribute) for m, name in enumerate(members)},
        }
        for p in range(products)
        for attribute in ATTRIBUTES
    ]


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_deployment(
    folder: Path,
    members: Mapping[str, Mapping[str, Any]],
    *,
    rows: Sequence[Mapping[str, Any]] | None = None,
    attributes: Mapping[str, Any] | None = None,
    gate: Mapping[str, Any] | None = None,
    **more: Any,
) -> Path:
    """``deploy.yaml`` and ``votes.jsonl`` in ``folder``.

    ``members`` maps names to settings; ``options`` there are added to the replay options, or are those of
    another ``runtime``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "votes.jsonl", table(list(members)) if rows is None else rows)
    spec: dict[str, Any] = {
        "members": [
            {"name": name, **settings}
            if "runtime" in settings
            else {"name": name, "runtime": "replay"}
            | {**settings, "options": {"votes": "votes.jsonl", **settings.get("options", {})}}
            for name, settings in members.items()
        ],
        "attributes": {name: {} for name in ATTRIBUTES} if attributes is None else dict(attributes),
        "server": FREE_PORTS,
        "gate": dict(gate or {}),
        **more,
    }
    path = folder / "deploy.yaml"
    path.write_text(yaml.safe_dump(spec, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def set_state(
    spec: Deployment,
    versions: Sequence[int],
    stable: int = 1,
    canary: int = 1,
    share: float = 0.0,
    repository: Path | None = None,
) -> None:
    """Give a rendered repository a state by hand, and the files that follow."""
    store = Store(repository or spec.repository_path)
    store.write_state(State(tuple(versions), {STABLE: stable, CANARY: canary}, share))
    render(spec, store.path)


class Served:
    """What Triton would read in a repository: the configurations, whatever the state says.

    Attributes:
        versions: Versions that the vote's configuration lists.
        pins: Channel -> the version that its configuration asks.
    """

    def __init__(self, repository: Path) -> None:
        configs = {
            m: parse_config((repository / m / CONFIG_FILE).read_text("utf-8")) for m in (VOTE, *CHANNELS)
        }
        self.versions = list(configs[VOTE].version_policy.specific.versions)
        self.pins = {channel: int(vote_step(configs[channel]).model_version) for channel in CHANNELS}


class Live:
    """A running deployment and the ways into it."""

    def __init__(self, server: TritonServer) -> None:
        self.server, self.spec, self.endpoint = server, server.spec, server.endpoint
        self.url = server.endpoint.grpc_url
        self.control = Control(self.url, server.endpoint.admin_key)
        self._channel = grpc.insecure_channel(self.url)
        self.stub = GRPCInferenceServiceStub(self._channel)

    def ask_raw(
        self,
        text: bytes,
        attributes: Sequence[str],
        category: str = "",
        channel: str = "quorum",
        timeout_s: float = 60.0,
        server_timeout_us: int = 0,
    ) -> Any:
        """Send exactly this TEXT buffer; the future of the response."""
        request = grpc_request(channel, text, [a.encode() for a in attributes], category.encode())
        if server_timeout_us:
            request.parameters["timeout"].int64_param = server_timeout_us
        return self.stub.ModelInfer.future(request, timeout=timeout_s)

    def ask(self, text: str, attributes: Sequence[str], category: str = "", **how: Any) -> Reply:
        """Ask about one product."""
        return grpc_reply(self.ask_raw(bytes_tensor([text.encode()]), attributes, category, **how).result())

    def close(self) -> None:
        self._channel.close()
        self.control.close()


@contextmanager
def running(deploy: Path, **how: Any) -> Iterator[Live]:
    """Render, start, wait for both channels; at the end kill what was not stopped by the test."""
    render(load_deployment(deploy))
    with plain_triton(deploy, **how) as live:
        wait_channels(live.server, START_S)
        yield live


@contextmanager
def plain_triton(deploy: Path, **how: Any) -> Iterator[Live]:
    """Triton on the repository as it lies, as a container's entry point starts it; ready by its own word."""
    spec = load_deployment(deploy)
    server = TritonServer(spec, log_path=spec.root / "server.log", **how)
    try:
        server.start()
        live = Live(server)
        try:
            server.wait_ready(lambda: all(live.control.is_ready(channel) for channel in CHANNELS), START_S)
            yield live
        finally:
            live.close()
    finally:
        # Triton takes two seconds to stop in order, which other tests look at.
        server.stop(drain_s=0)

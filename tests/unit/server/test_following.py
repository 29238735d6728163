# SPDX-License-Identifier: Apache-2.0
"""A gateway follows what `quorum apply` changes: here it is rendered, as apply leaves the repository."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import msgspec
import yaml
from support.deployment import write_deployment
from support.http_half import exchange, request_of

from quorum.deployment import load_deployment
from quorum.deployment.schema import Deployment
from quorum.gateway.settings import Settings
from quorum.repository.render import render
from quorum.rollout.apply_journal import APPLY_FILE
from quorum.server.endpoint import Endpoint
from quorum.server.following import FollowedSettings
from quorum.server.gateway_process import GatewayProcess
from quorum.server.gateway_settings import settings_of

KEY = "a-key-that-only-some-know"


def edit(deploy: Path, **changes: Any) -> Deployment:
    spec = yaml.safe_load(deploy.read_text("utf-8")) | changes
    deploy.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return load_deployment(deploy)


def test_settings_follow_what_was_applied_and_nothing_else(tmp_path: Path) -> None:
    deploy = write_deployment(tmp_path, {"alpha": {}}, attributes={"color": {}})
    spec = load_deployment(deploy)
    render(spec)
    endpoint = Endpoint("127.0.0.1", 1, None, 2, "admin", gateway="127.0.0.1:4")
    settings = settings_of(spec, endpoint)
    assert settings is not None
    followed = FollowedSettings(spec, endpoint, spec.repository_path, settings)
    assert followed.changed() is None
    changed = edit(
        deploy, attributes={"color": {}, "brand": {}}, gate={"max_timeout_s": 50, "max_in_flight": 7}
    )
    assert followed.changed() is None, "it is not applied yet"
    pending = spec.repository_path / APPLY_FILE
    pending.touch()
    render(changed)
    history = spec.repository_path / "rollout.jsonl"
    history.write_text(history.read_text("utf-8") + "\n", encoding="utf-8")
    assert followed.changed() is None, "it is not done yet"
    pending.unlink()
    found = followed.changed()
    assert found is not None
    assert (found.attributes, found.max_timeout_s, found.max_calls) == (["color", "brand"], 55.0, 71)
    assert found.grpc == settings.grpc
    assert followed.changed() is None
    edit(deploy, attributes={"color": {}})
    assert followed.changed() is None


def test_a_running_gateway_takes_over_settings(tmp_path: Path) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = int(one.getsockname()[1])
    changes: list[Settings] = []
    reports: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = Settings(
            root=str(tmp_path), target=f"127.0.0.1:{silent.getsockname()[1]}", grpc=None,
            http=f"127.0.0.1:{port}", keys=None, tls=None, request_log=None, max_message_bytes=1024,
            max_calls=9999, timeout_s=0.2, max_timeout_s=60.0, max_age_s=600.0, drain_s=1.0, wait_s=0.0,
            route_canary=False, attributes=["brand"],
        )  # fmt: skip

        def ask() -> tuple[int, str]:
            raw = asyncio.run(exchange(port, request_of("POST", "/v1/extract", b'{"text":"a"}', key=KEY)))
            body = json.loads(raw.partition(b"\r\n\r\n")[2])
            return body["status"], body["code"]

        process = GatewayProcess(
            settings,
            KEY,
            tmp_path / "log",
            reports.append,
            changed=lambda: changes.pop() if changes else None,
        )
        try:
            pid = process.pid
            assert ask() == (504, "DEADLINE_EXCEEDED")
            # No calls at all: what it asks now is refused at once.
            changes.append(msgspec.structs.replace(settings, max_calls=0))
            while ask() != (503, "OVERLOADED"):
                pass
            assert process.pid == pid
        finally:
            process.close()
    assert [line.partition(" the ")[2] for line in reports] == [
        f"gateway at 127.0.0.1:{port} follows what was applied"
    ]

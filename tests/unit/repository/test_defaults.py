# SPDX-License-Identifier: Apache-2.0
"""Defaults of runtimes are part of what is rendered: one that changes shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.deployment import write_deployment
from typer.testing import CliRunner

from quorum.cli import app
from quorum.deployment import load_deployment
from quorum.repository.configs import parse_config
from quorum.repository.render import render
from quorum.runtimes import options
from quorum.runtimes.lookup_options import ReplayOptions
from quorum.runtimes.options import read_options


class OtherOptions(ReplayOptions, frozen=True, kw_only=True):
    seed: int = 7


def test_a_changed_default_fails_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy = write_deployment(tmp_path, {"alpha": {}, "beta": {"options": {"seed": 3}}})
    render(load_deployment(deploy))
    check = ["render", "--check", "--deploy", str(deploy), "--json"]
    assert CliRunner().invoke(app, check).exit_code == 0
    monkeypatch.setattr(options, "RUNTIMES", {**options.RUNTIMES, "replay": OtherOptions})
    result = CliRunner().invoke(app, check)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["write"] == ["alpha/config.pbtxt"]


def test_options_are_rendered_with_their_defaults_and_read_back(tmp_path: Path) -> None:
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}}))
    render(spec)
    config = parse_config((spec.repository_path / "alpha" / "config.pbtxt").read_text("utf-8"))
    (member,) = json.loads(config.parameters["quorum"].string_value)["members"]
    assert member["options"] == {
        "votes": "votes.jsonl",
        "recorded_as": None,
        "latency_ms": 0.0,
        "latency_shape": "exponential",
        "fail_share": 0.0,
        "hang_share": 0.0,
        "seed": 0,
        "scores": True,
        "prompt_tokens": None,
        "answer_tokens": None,
        "isolated": False,
        "memory_limit_gib": None,
        "faults": None,
    }
    assert read_options("replay", member["options"]) == spec.members[0].options

# SPDX-License-Identifier: Apache-2.0
"""The examples of members behind other servers' APIs are valid without any key, and hold none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import quorum
from quorum.runtimes.openai_options import OpenAiOptions

EXAMPLES = Path(__file__).parents[2] / "examples" / "openai"
DEPLOYMENTS = sorted(EXAMPLES.glob("deploy*.yaml"))


def test_there_are_two() -> None:
    assert [path.name for path in DEPLOYMENTS] == ["deploy.paid.yaml", "deploy.yaml"]


@pytest.mark.parametrize("path", DEPLOYMENTS, ids=lambda path: path.name)
def test_they_are_valid_and_name_what_is_missing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    spec = quorum.load_deployment(path)
    warnings = quorum.validate(spec)
    keyed = [m for m in spec.members if isinstance(m.options, OpenAiOptions) and m.options.has_key]
    assert len(warnings) == len(keyed)
    assert all("OPENAI_API_KEY is not set" in warning for warning in warnings)


def test_compose_serves_the_members_of_its_deployment() -> None:
    compose = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
    members = yaml.safe_load((EXAMPLES / "deploy.yaml").read_text())["members"]
    hosts = {re.fullmatch(r"http://(\w+):8000/v1", m["options"]["base_url"])[1] for m in members}  # type: ignore[index]
    assert hosts | {"quorum"} == compose["services"].keys()
    vllm = compose["services"]["vllm"]["command"]
    assert vllm[vllm.index("--served-model-name") + 1] == members[0]["options"]["model"]
    assert "unverified on gpu" in (EXAMPLES / "compose.yaml").read_text().lower()
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            assert value == "1" or re.fullmatch(r"\$\{\w+:-\}", value), (name, variable)


def test_no_file_holds_a_key() -> None:
    for path in EXAMPLES.iterdir():
        assert not re.search(r"\b(sk|nvapi|hf)[-_]\w{8}", path.read_text()), path

# SPDX-License-Identifier: Apache-2.0
"""The lines that ``quorum tune`` prints are a member that ``deploy.yaml`` accepts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from quorum.deployment.load import load_deployment
from quorum.operations.member_lines import member_lines
from quorum.tune.card import Card

CARD = Card(tasks=("color",), method="full", architecture="encoder", base="base", base_hash="sha256:0")
LLM = replace(CARD, method="lora", architecture="causal", prompts={"style": "instruct"})


@pytest.mark.parametrize("task", ["Größe/x", "色", "a: b # c, d", "-.-", "x" * 99, "quorum_shared_x", "on"])
@pytest.mark.parametrize("card", [CARD, LLM, replace(LLM, method="full", base="Größe: #2, x")])
def test_any_name_and_path_makes_a_member_that_is_accepted(tmp_path: Path, card: Card, task: str) -> None:
    out, base = tmp_path / "made: of #1, {it}" / "m", tmp_path / "base 'x'"
    lines = member_lines(replace(card, tasks=(task,)), base, out, tmp_path, taken=["value-encoder"])
    path = tmp_path / "deploy.yaml"
    path.write_text(f"attributes: {{color: {{}}}}\nmembers:\n{lines}", encoding="utf-8")
    (member,) = load_deployment(path).members
    folders = {member.options.llm, *(name for name in member.options.adapters_used if name)}
    assert "made: of #1, {it}/m" in folders
    assert member.prompt == "instruct"


def test_paths_start_from_the_deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "shop"
    (root / "bases").mkdir(parents=True)
    monkeypatch.chdir(root / "bases")
    assert member_lines(LLM, Path("llm"), Path("../../tuned"), root, chat=False) == (
        "  - name: color-base\n"
        "    runtime: hf\n"
        f"    options: {{model: bases/llm, lora: {tmp_path / 'tuned'}, chat: false}}\n"
        "    prompt: instruct\n"
    )


def test_names_that_the_deployment_has_are_not_given_again(tmp_path: Path) -> None:
    taken = ["color-encoder", "color-encoder-2"]
    assert "name: color-encoder-3\n" in member_lines(CARD, tmp_path, tmp_path, tmp_path, taken=taken)

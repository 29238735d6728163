# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from quorum.deployment import DeploymentError, load_deployment
from quorum.deployment.retriever import RetrieverSpec
from quorum.operations.describe import MisfitError, validate

BASE = """\
attributes: {}
members:
  - {name: alpha, runtime: replay, options: {votes: votes.jsonl}}
"""


def write(folder: Path, section: str) -> Path:
    (folder / "votes.jsonl").touch()
    path = folder / "deploy.yaml"
    path.write_text(f"{BASE}{section}", "utf-8")
    return path


def test_the_section_is_optional_and_has_defaults(tmp_path: Path) -> None:
    assert load_deployment(write(tmp_path, "")).retriever is None
    spec = load_deployment(write(tmp_path, "retriever: {}\n"))
    assert spec.retriever == RetrieverSpec()
    validate(spec)
    given = load_deployment(write(tmp_path, "retriever: {engine: onnxruntime, precision: int8}\n")).retriever
    assert given is not None
    assert (given.engine, given.precision, given.max_less_recall) == ("onnxruntime", "int8", 0.02)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("retriever: {max_flight: 8}", [":4:", "retriever.max_flight", "did you mean 'max_in_flight'?"]),
        ("retriever: {precision: int8}", ["openvino has no int8; use f32, or `engine: onnxruntime`"]),
        ("retriever: {precision: bf16, engine: onnxruntime}", ["onnxruntime has no bf16"]),
        ("retriever: {precision: int8, triton: true}", ["int8 is not for a GPU"]),
        ("retriever: {engine: torch}", ["retriever.engine", "'openvino' or 'onnxruntime'"]),
        ("retriever: {near_identical: 1.2}", ["retriever.near_identical", "less than or equal to 1"]),
        ("retriever: {near_identical: .nan}", ["retriever.near_identical"]),
        ("retriever: {max_batch: 0}", ["retriever.max_batch", "greater than or equal to 1"]),
        ("retriever: {max_less_recall: 2}", ["retriever.max_less_recall"]),
    ],
)
def test_what_cannot_be_served_is_refused(tmp_path: Path, section: str, words: list[str]) -> None:
    with pytest.raises(DeploymentError) as refused:
        load_deployment(write(tmp_path, section))
    assert all(word in str(refused.value) for word in words), str(refused.value)


@pytest.mark.parametrize("name", ["quorum_retriever", "quorum_recommend", "quorum_recommend_canary"])
def test_members_cannot_take_the_names_of_its_models(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "")
    path.write_text(BASE.replace("alpha", name), "utf-8")
    with pytest.raises(DeploymentError, match="one of quorum's own models"):
        load_deployment(path)


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    spec = load_deployment(write(tmp_path, "retriever: {blocklist: no.txt, heldout: pairs.jsonl}\n"))
    with pytest.raises(MisfitError) as refused:
        validate(spec)
    assert f"retriever.blocklist: {tmp_path / 'no.txt'} is no file; write keyphrases" in str(refused.value)
    assert f"retriever.heldout: {tmp_path / 'pairs.jsonl'} is no file" in str(refused.value)
    (tmp_path / "no.txt").touch()
    (tmp_path / "pairs.jsonl").touch()
    validate(spec)

# SPDX-License-Identifier: Apache-2.0
"""``quorum evaluate-retrieval``: figures of a student that is right, one that is not, and BM25."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command import quorum, quorum_json
from support.retrievers import WORDS, Encoder

from quorum.evaluation.retrieval import Truth, ceiling, rate_bm25, rate_vectors, score
from quorum.files import hash_file
from quorum.operations.evaluate_retrieval import RetrievalOptions, evaluate_retrieval
from quorum.retrieval.judged import JudgedError, JudgedPair, gather
from quorum.retrieval.judged_files import read_judged, write_judged
from quorum.retrieval.manifest import STUDENT_FILE, ManifestError

OPTIONS = RetrievalOptions(engine="onnxruntime", threads=1, k=3)


def pairs(gold: bool = True) -> list[JudgedPair]:
    """The label is the cosine of the encoder with seed 0, so that it agrees wholly, and no other does."""
    draw = np.random.default_rng(0)
    items = [" ".join(draw.choice(WORDS, 4, replace=False)) for _ in range(12)]
    keyphrases = [" ".join(draw.choice(WORDS, 2, replace=False)) for _ in range(8)]
    cosines = Encoder().items(items) @ Encoder().keyphrases(keyphrases).T
    return [
        JudgedPair(
            item=f"i{row}",
            text=items[row],
            keyphrase=keyphrases[column],
            label=float((cosines[row, column] + 1) / 2),
            value="1",
            confidence=0.9,
            gold=float(cosines[row, column] > 0) if gold else None,
            impressions=float(cosines[row, column] < 0.3),
        )
        for row, column in np.ndindex(12, 8)
    ]


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough to tell right from wrong; only how wide intervals are depends on more."""
    monkeypatch.setattr("quorum.evaluation.retrieval._RESAMPLES", 200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    Encoder().write(folder / "right")
    Encoder(seed=7).write(folder / "wrong")
    write_judged(folder / "judged.parquet", pairs(), {})
    return folder


def test_the_student_that_the_labels_are_of_agrees_wholly(folder: Path) -> None:
    options = RetrievalOptions(engine="onnxruntime", threads=1, k=3, against=folder / "wrong")
    found = evaluate_retrieval(folder / "judged.parquet", folder / "right", options)
    assert list(found.figures) == ["student 8", "student 4", "against 8", "against 4", "BM25"]
    right = found.figures["student 8"]
    for name in ("pearson", "spearman", "auc"):
        assert right[name].value == pytest.approx(1, abs=1e-4)
        change = found.differences["student 8 - against 8"][name]
        assert change.value == pytest.approx(right[name].value - found.figures["against 8"][name].value)
        assert change.excludes_zero
    assert set(right) == {"pearson", "spearman", "auc", "ndcg", "keyphrases", "items"}
    assert (found.pairs, found.queries, found.items, found.candidates) == (96, 8, 12, 8)
    # What labels of two kinds, a share of grades, can agree with grades at most.
    assert found.ceiling["auc"].value == 1
    assert 0.5 < found.ceiling["pearson"].value < 1
    assert any("were never shown by search" in remark for remark in found.remarks)


def test_recall_is_of_relevant_pairs_among_all_keyphrases(folder: Path) -> None:
    judged = read_judged(folder / "judged.parquet")
    encoder = Encoder()
    items, keyphrases = encoder.items(judged.texts), encoder.keyphrases(judged.keyphrases)
    truth = Truth(judged, judged.keyphrases, 3)
    rated = rate_vectors(truth, items, keyphrases, 8)
    found = score(truth, {"own": rated}, []).figures["own"]
    table = items @ keyphrases.T
    relevant = table > 0
    by_item = np.argsort(np.argsort(-table, 1), 1) < 3
    by_keyphrase = np.argsort(np.argsort(-table, 0), 0) < 3
    assert found["keyphrases"].value == pytest.approx(by_item[relevant].mean())
    assert found["items"].value == pytest.approx(by_keyphrase[relevant].mean())


def test_further_keyphrases_make_recall_harder(folder: Path) -> None:
    path = folder / "more.txt"
    path.write_text("\n".join(f"{a} {b}" for a in WORDS[:12] for b in WORDS[12:]) + "\n\x00\n")
    options = RetrievalOptions(engine="onnxruntime", threads=1, k=3, dims=(8,), keyphrases=path)
    more = evaluate_retrieval(folder / "judged.parquet", folder / "right", options)
    alone = evaluate_retrieval(folder / "judged.parquet", folder / "right", OPTIONS)
    assert more.candidates > 200
    for name in ("student 8", "BM25"):
        assert more.figures[name]["keyphrases"].value < alone.figures[name]["keyphrases"].value
        assert more.figures[name]["pearson"] == alone.figures[name]["pearson"]


def test_bm25_finds_by_words() -> None:
    rows = [("a", "red shoes", "red", 1.0), ("a", "red shoes", "lamp", 0.0), ("b", "desk lamp", "lamp", 1.0)]
    judged = gather(
        JudgedPair(item=item, text=text, keyphrase=keyphrase, label=label, value="1", confidence=1.0)
        for item, text, keyphrase, label in rows
    )
    rated = rate_bm25(Truth(judged, (*judged.keyphrases, "desk"), 2))
    assert rated.scores.tolist() == [1, 0, 1]
    assert rated.keyphrases.tolist() == [[0, -1], [1, 2]]
    assert rated.items.tolist() == [[0, -1], [1, -1]]
    assert ceiling(judged) == {}


@pytest.mark.parametrize(
    ("label", "k", "words"),
    [(0.0, 1, "all pairs are irrelevant"), (1.0, 1, "all pairs are relevant"), (None, 20, "too few for the")],
)
def test_pairs_that_give_no_figure(folder: Path, tmp_path: Path, label: Any, k: int, words: str) -> None:
    from msgspec.structs import replace

    rows = [replace(pair, gold=pair.gold if label is None else label) for pair in pairs()]
    write_judged(tmp_path / "judged.jsonl", rows, {})
    options = RetrievalOptions(engine="onnxruntime", threads=1, k=k)
    with pytest.raises(JudgedError, match=words):
        evaluate_retrieval(tmp_path / "judged.jsonl", folder / "right", options)


def test_pairs_that_taught_the_student_are_not_held_out(folder: Path, tmp_path: Path) -> None:
    Encoder().write(tmp_path / "taught")
    manifest = json.loads((tmp_path / "taught" / STUDENT_FILE).read_text("utf-8"))
    for path, is_held_out in ((folder / "judged.parquet", False), (folder / "right" / STUDENT_FILE, True)):
        manifest["data"] = {"judged": {"hash": hash_file(path)}}
        (tmp_path / "taught" / STUDENT_FILE).write_text(json.dumps(manifest), "utf-8")
        found = evaluate_retrieval(folder / "judged.parquet", tmp_path / "taught", OPTIONS)
        assert any("not held out" in remark for remark in found.remarks) != is_held_out


def test_dimensions_that_the_student_has_not(folder: Path) -> None:
    options = RetrievalOptions(dims=(5,))
    with pytest.raises(ManifestError, match="--dims 5: the student's vectors may be cut to 8, 4"):
        evaluate_retrieval(folder / "judged.parquet", folder / "right", options)


def test_the_command(folder: Path) -> None:
    arguments = ("evaluate-retrieval", "judged.parquet", "--encoder", "right", "--k", "3", "--dims", "8")
    out, err = quorum(folder, *arguments, "--engine", "onnxruntime")
    assert "student 8 - BM25" in out
    assert "recall@3," in out
    narrow, _ = quorum(folder, *arguments, "--engine", "onnxruntime", COLUMNS="80")
    assert "keyphrases" in narrow
    assert "recall@3," in narrow
    assert "…" not in narrow
    assert "the judge against people: pearson" in err
    report = quorum_json(folder, *arguments, "--engine", "onnxruntime")
    assert report["figures"]["student 8"]["auc"]["value"] == pytest.approx(1)

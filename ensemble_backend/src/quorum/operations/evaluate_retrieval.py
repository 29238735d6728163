# SPDX-License-Identifier: Apache-2.0
"""Compare students on judged pairs with BM25, an untrained base, and other students."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from quorum.bulk.callbacks import Note, ignore
from quorum.evaluation.retrieval import Rated, Truth, ceiling, never_shown, rate_bm25, rate_vectors, score
from quorum.evaluation.stats import Estimate
from quorum.files import hash_file
from quorum.records import Record
from quorum.retrieval.encode import TextEncoder, encode_in_parts
from quorum.retrieval.judged import Judged, JudgedError
from quorum.retrieval.judged_files import read_judged
from quorum.retrieval.keyphrase_lines import Broken, read_lines
from quorum.retrieval.manifest import ManifestError, StudentManifest, check_student
from quorum.runtimes.onnx_network import Engine

_FEW, _SKEWED = 30, 0.1
STUDENT, AGAINST, ZERO_SHOT, BM25 = "student", "against", "zero-shot", "BM25"


@dataclass(frozen=True, slots=True)
class RetrievalOptions:
    """Settings of :func:`evaluate_retrieval`.

    Attributes:
        against: Folder of another student.
        base: Folder of a base model; measured as it is: "zero-shot". Needs PyTorch.
        keyphrases: File of further keyphrases that recall searches among, see ``quorum index``.
        dims: Dimensions to cut vectors to; empty: all of the student's.
        k: Ranks that count for nDCG and recall.
        engine: What computes the vectors.
        threads: CPU threads of it; 0: one per core.
    """

    against: Path | None = None
    base: Path | None = None
    keyphrases: Path | None = None
    dims: Sequence[int] = ()
    k: int = 10
    engine: Engine = "openvino"
    threads: int = 0


@dataclass(frozen=True, slots=True)
class RetrievalEvaluation(Record):
    """Figures of methods on judged pairs.

    Attributes:
        pairs: How many.
        queries: Judged keyphrases.
        items: Items, among which items are searched.
        candidates: Keyphrases among which keyphrases are searched.
        k: Ranks that count.
        figures: "student 64", "BM25" and so on -> name (see :func:`quorum.evaluation.retrieval.score`) ->
            figure with its interval.
        differences: "student 64 - BM25" -> the same, paired.
        ceiling: Agreement of the judge with people; empty without gold.
        disagreement: Mean share of the judge's members that named another grade.
        remarks: What to know before these are believed.
    """

    pairs: int
    queries: int
    items: int
    candidates: int
    k: int
    figures: Mapping[str, Mapping[str, Estimate]]
    differences: Mapping[str, Mapping[str, Estimate]]
    ceiling: Mapping[str, Estimate] = field(default_factory=dict)
    disagreement: float = 0.0
    remarks: Sequence[str] = ()


def evaluate_retrieval(
    judged: Path, encoder: Path, options: RetrievalOptions | None = None, *, note: Note = ignore
) -> RetrievalEvaluation:
    """Measure a student on judged pairs that it was not taught.

    Args:
        judged: File of ``quorum judge``.
        encoder: Folder of the student.
        options: See there.
        note: Called with what comes next, where it takes a while.

    Raises:
        JudgedError: The pairs cannot be read, or no figure can be had from them.
        ManifestError: A student is damaged, or has not the dimensions asked for.
        KeyphrasesError: The further keyphrases cannot be read.
        BaseModelError: ``options.base`` holds no encoder.
    """
    options = options or RetrievalOptions()
    student = check_student(encoder)
    cuts = tuple(options.dims) or student.dims
    if unknown := [dims for dims in cuts if dims not in student.dims]:
        known = ", ".join(map(str, student.dims))
        raise ManifestError(f"--dims {unknown[0]}: the student's vectors may be cut to {known}")
    truth = read_truth(judged, options.keyphrases, options.k)
    pairs = truth.judged
    rated: dict[str, Rated] = {}

    def measure(name: str, folder: Path) -> None:
        opened = TextEncoder(folder, options.engine, threads=options.threads)
        items = encode_in_parts(opened.items, pairs.texts, f"{name}: items", note)
        keyphrases = encode_in_parts(opened.keyphrases, truth.keyphrases, f"{name}: keyphrases", note)
        for dims in cuts:
            if dims <= opened.dims:
                rated[f"{name} {dims}"] = rate_vectors(truth, items, keyphrases, dims)

    measure(STUDENT, encoder)
    if options.against:
        check_student(options.against)
        measure(AGAINST, options.against)
    if options.base:
        from quorum.distill.zero_shot import write_zero_shot

        with tempfile.TemporaryDirectory(prefix="quorum-zero-shot-") as name:
            note(f"exporting {options.base}")
            write_zero_shot(options.base, Path(name), student.dims, student.max_tokens)
            measure(ZERO_SHOT, Path(name))
    rated[BM25] = rate_bm25(truth)
    note("drawing keyphrases for the intervals")
    scored = score(truth, rated, _compared(rated, cuts))
    return RetrievalEvaluation(
        len(pairs), len(np.unique(pairs.keyphrase_of)), len(pairs.items), len(truth.keyphrases), options.k,
        scored.figures, scored.differences, ceiling(pairs), float(pairs.disagreements.mean()),
        (*_taught(judged, student), *_remarks(truth)),
    )  # fmt: skip


def read_truth(judged: Path, keyphrases: Path | None, k: int) -> Truth:
    """Read judged pairs to measure by, and the keyphrases that are searched besides theirs.

    Raises:
        JudgedError: The pairs cannot be read, or no figure can be had from them.
        KeyphrasesError: The keyphrases cannot be read.
    """
    pairs = read_judged(judged)
    truth = Truth(pairs, _candidates(pairs, keyphrases), k)
    _check(judged, truth)
    return truth


def _candidates(judged: Judged, path: Path | None) -> tuple[str, ...]:
    if path is None:
        return judged.keyphrases
    others = (line.text for line in read_lines(path) if not isinstance(line, Broken))
    return tuple(dict.fromkeys([*judged.keyphrases, *others]))


def _check(path: Path, truth: Truth) -> None:
    relevant = truth.relevant
    if not relevant.any() or relevant.all():
        kind = "relevant" if relevant.any() else "irrelevant"
        raise JudgedError(f"{path}: all pairs are {kind}; judge some of both kinds")
    # Recall of more than there are would be of all.
    if min(len(truth.keyphrases), len(truth.judged.items)) < truth.k:
        raise JudgedError(
            f"{path}: {len(truth.judged.items)} items and {len(truth.keyphrases)} keyphrases, too few for the"
            f" first {truth.k}; give more --keyphrases, or a lower --k"
        )


def _compared(rated: Mapping[str, Rated], cuts: Sequence[int]) -> list[tuple[str, str]]:
    pairs = [
        (f"{STUDENT} {dims}", f"{name} {dims}")
        for dims in cuts
        for name in (AGAINST, ZERO_SHOT)
        if f"{name} {dims}" in rated
    ]
    return [*pairs, *((f"{STUDENT} {dims}", BM25) for dims in cuts)]


def _taught(judged: Path, student: StudentManifest) -> tuple[str, ...]:
    """Say where the student was taught by this very file."""
    source = student.data.get("judged")
    if not isinstance(source, Mapping) or source.get("hash") != hash_file(judged):
        return ()
    return (f"{judged}: the student was taught by this file, so its figures are not held out",)


def _remarks(truth: Truth) -> list[str]:
    found = []
    queries = len(np.unique(truth.judged.keyphrase_of))
    if queries < _FEW:
        found.append(f"{queries} keyphrases: the intervals are wide")
    if not truth.by_people:
        found.append("relevant is what the judge calls so: not all pairs have gold")
    if (shares := never_shown(truth)) is not None and shares[0] > _SKEWED:
        found.append(
            f"{shares[0]:.0%} of the relevant pairs, and {shares[1]:.0%} of the others, were never shown by"
            " search: clicks are missing not at random, and say nothing of those"
        )
    return found

# SPDX-License-Identifier: Apache-2.0
"""Make a version of the retriever: a student, and the keyphrases that it embedded."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from quorum.bulk.callbacks import Note, ignore
from quorum.files import hash_file
from quorum.records import Record
from quorum.retrieval.embed import Progress, embed
from quorum.retrieval.encode import TextEncoder
from quorum.retrieval.filters import read_blocklist
from quorum.retrieval.graph import LARGEST_EXACT, RECALL_K, Numbers, build_graph, recall_of
from quorum.retrieval.index import open_index
from quorum.retrieval.keyphrase_table import MAX_BAD, Gathered, gather_keyphrases, read_broken
from quorum.retrieval.manifest import (
    ENCODER_FILE,
    GRAPH_FILE,
    KEYPHRASES_FILE,
    RETRIEVER_FILE,
    STUDENT_FILES,
    VECTORS_FILE,
    ManifestError,
    RetrieverManifest,
    StudentManifest,
    check_retriever,
    check_student,
    file_hashes,
    write_manifest,
)
from quorum.retrieval.vectors import Vectors, cut
from quorum.retrieval.version_folder import check_target, has_parts, making, parts_folder, remove_parts
from quorum.runtimes.onnx_network import Engine

DIMS = 64
MEASURED = 500
"""Keyphrases whose search measures the recall of a graph."""


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """Settings of :func:`index_keyphrases`.

    Attributes:
        dims: Dimensions of the vectors; None: 64, or the nearest that the student has.
        index: ``exact``, ``usearch``, or None: exact up to 200 000 keyphrases.
        numbers: Of a usearch graph: see :func:`quorum.retrieval.graph.build_graph`.
        blocklist: Keyphrases that are left out, one a line.
        max_bad: Lines that may be broken: a number, or a share of all such as "1%".
        engine: What computes the vectors.
        threads: CPU threads of it; 0: one per core.
    """

    dims: int | None = None
    index: Literal["exact", "usearch"] | None = None
    numbers: Numbers = "f16"
    blocklist: Path | None = None
    max_bad: str = MAX_BAD
    engine: Engine = "openvino"
    threads: int = 0


@dataclass(frozen=True, slots=True)
class IndexReport(Record):
    """A version that was made.

    Attributes:
        out: Its folder.
        content_hash: Of what decides its answers.
        keyphrases: How many it has.
        dims: Of its vectors.
        index: ``exact`` or ``usearch``.
        recall: Share of the exact 50 nearest that a search finds.
        lines: Of the file.
        duplicates: Lines that are the same for a buyer as an earlier one.
        blocked: Lines on the blocklist.
        broken: Reason -> lines that cannot be used.
        dead_letters: The file that names those; None: there are none.
    """

    out: Path
    content_hash: str
    keyphrases: int
    dims: int
    index: str
    recall: float
    lines: int
    duplicates: int
    blocked: int
    broken: Mapping[str, int]
    dead_letters: Path | None = None


def index_keyphrases(
    keyphrases: Path,
    encoder: Path,
    out: Path,
    options: IndexOptions | None = None,
    *,
    progress: Progress | None = None,
    note: Note = ignore,
) -> IndexReport:
    """Embed keyphrases by a student, and write the folder that ``quorum publish`` takes.

    The folder appears complete or not at all. A run that was killed goes on from the vectors that it had,
    when it is started again, and says what it made if that was all; equal inputs give an equal content hash
    on CPUs of one kind.

    Args:
        keyphrases: Text (one a line), JSON lines or CSV, each also as ``.gz``, or Parquet.
        encoder: Folder of a student.
        out: Folder to make.
        options: See there.
        progress: Called after each part that has been embedded.
        note: Called with what comes next, where it takes a while.

    Raises:
        KeyphrasesError: The file cannot be read, or too many of its lines are broken.
        ManifestError: The student is damaged, ``out`` holds something, or an option does not fit.
        OSError: A file cannot be read or written, or another run makes ``out``.
    """
    options = options or IndexOptions()
    out = out.absolute()
    dead_letters = out.with_name(f"{out.name}.left-out.jsonl")
    if before := _finished_before(keyphrases, encoder, out, options, dead_letters):
        note(f"{out} was complete already; removed the parts that a killed run left")
        return before
    check_target(out)
    student = check_student(encoder)
    dims = _dims(student, options.dims)
    blocked = read_blocklist(options.blocklist) if options.blocklist else frozenset()
    note(f"reading {keyphrases}")
    found = gather_keyphrases(keyphrases, dead_letters, options.max_bad, blocked)
    with parts_folder(out) as parts, making(out) as folder:
        for name in STUDENT_FILES:
            shutil.copyfile(encoder / name, folder / name)
        manifest = _make(
            found, folder, parts, dims, options, _sources(keyphrases, found, options), progress, note
        )
    return _report(out, manifest, found.broken, dead_letters)


def _make(
    found: Gathered,
    folder: Path,
    parts: Path,
    dims: int,
    options: IndexOptions,
    sources: dict[str, Any],
    progress: Progress | None,
    note: Note,
) -> RetrieverManifest:
    """Embed and write all files of a version but those of the student, which are there."""
    count = len(found.table)
    kind = options.index or ("exact" if count <= LARGEST_EXACT else "usearch")
    # Of the copy: the student may be made anew meanwhile.
    opened = TextEncoder(folder, options.engine, threads=options.threads)
    made_by = f"{file_hashes(folder, STUDENT_FILES)} {options.engine}"
    target = (folder if kind == "exact" else parts) / VECTORS_FILE
    embed(found.texts, opened, made_by, dims, parts, target, progress)
    _write_table(found, folder / KEYPHRASES_FILE)
    manifest = RetrieverManifest(
        student=hash_file(folder / ENCODER_FILE),
        dims=dims,
        index=kind,
        keyphrases=count,
        sources=sources,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    recall = 1.0
    if kind == "usearch":
        note(f"building the graph of {count} keyphrases")
        recall = _graph(target, found, opened, folder, manifest, options.numbers, note)
    return _finish(folder, manifest, recall)


def _report(
    out: Path, manifest: RetrieverManifest, broken: Mapping[str, int], dead_letters: Path
) -> IndexReport:
    of = manifest.sources["keyphrases"]
    return IndexReport(
        out, manifest.content_hash, manifest.keyphrases, manifest.dims, manifest.index, manifest.recall,
        of["lines"], of["duplicates"], of["blocked"], dict(broken), dead_letters if broken else None,
    )  # fmt: skip


def _finished_before(
    keyphrases: Path, encoder: Path, out: Path, options: IndexOptions, dead_letters: Path
) -> IndexReport | None:
    """What a run of these inputs made that was killed before it removed its parts; None: there was none."""
    if not (has_parts(out) and (out / RETRIEVER_FILE).is_file()):
        return None
    try:
        manifest, student = check_retriever(out)[0], check_student(encoder)
        stated, blocklist = manifest.sources, options.blocklist
        same = (
            manifest.student == student.files[ENCODER_FILE]
            and manifest.dims == _dims(student, options.dims)
            and options.index in (None, manifest.index)
            and stated["engine"] == options.engine
            and stated["keyphrases"]["hash"] == hash_file(keyphrases)
            and stated.get("blocklist", {}).get("hash") == (hash_file(blocklist) if blocklist else None)
        )
        report = _report(out, manifest, read_broken(dead_letters), dead_letters) if same else None
    except (ManifestError, OSError, LookupError, ValueError):
        return None
    if report:
        remove_parts(out)
    return report


def _dims(student: StudentManifest, asked: int | None) -> int:
    if asked is None:
        return min(student.dims, key=lambda dims: abs(dims - DIMS))
    if asked not in student.dims:
        raise ManifestError(
            f"--dims {asked}: the student's vectors may be cut to {', '.join(map(str, student.dims))}; choose"
            " one of these"
        )
    return asked


def _write_table(found: Gathered, path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(found.table, path, compression="zstd")


def _sources(keyphrases: Path, found: Gathered, options: IndexOptions) -> dict[str, Any]:
    sources: dict[str, Any] = {
        "keyphrases": {
            "file": keyphrases.name,
            "hash": hash_file(keyphrases),
            "lines": found.lines,
            "broken": sum(found.broken.values()),
            "duplicates": found.duplicates,
            "blocked": found.blocked,
        },
        "engine": options.engine,
    }
    if options.blocklist:
        sources["blocklist"] = {"file": options.blocklist.name, "hash": hash_file(options.blocklist)}
    return sources


def _graph(
    vectors_file: Path,
    found: Gathered,
    encoder: TextEncoder,
    folder: Path,
    manifest: RetrieverManifest,
    numbers: Numbers,
    note: Note,
) -> float:
    """Write the graph; its recall of keyphrases for the texts of some of them, encoded as items are."""
    vectors: Vectors = np.asarray(np.load(vectors_file, mmap_mode="r"))
    build_graph(
        vectors,
        folder / GRAPH_FILE,
        numbers,
        lambda done, total: note(f"graph: {done} of {total}"),
    )
    note(f"measuring recall@{RECALL_K} against the exact search")
    drawn = np.random.default_rng(0).choice(len(vectors), min(MEASURED, len(vectors)), replace=False)
    asked = encoder.items([found.texts[int(at)].as_py() for at in drawn])
    return recall_of(open_index(folder, manifest, tried=True), cut(asked, manifest.dims), vectors)


def _finish(folder: Path, manifest: RetrieverManifest, recall: float) -> RetrieverManifest:
    from msgspec.structs import replace

    vectors = VECTORS_FILE if manifest.index == "exact" else GRAPH_FILE
    hashes = file_hashes(folder, (*STUDENT_FILES, KEYPHRASES_FILE, vectors))
    whole = replace(manifest, recall=round(recall, 4), files=hashes)
    write_manifest(folder, whole)
    return whole

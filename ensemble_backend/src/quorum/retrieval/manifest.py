# SPDX-License-Identifier: Apache-2.0
"""``student.json`` and ``retriever.json``: what a student and a version of the retriever are, with hashes.

A student is an encoder that ``quorum distill`` made. A version is a student, and an index of keyphrases that
this very student embedded: vectors of another encoder would give wrong answers without an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from quorum.files import hash_file, write_atomic
from quorum_contract.errors import QuorumError

STUDENT_FILE, RETRIEVER_FILE = "student.json", "retriever.json"
ENCODER_FILE, TOKENIZER_FILE = "encoder.onnx", "tokenizer.json"
KEYPHRASES_FILE = "keyphrases.parquet"
VECTORS_FILE, GRAPH_FILE = "vectors.npy", "vectors.usearch"
NETWORK_FILES = (ENCODER_FILE, TOKENIZER_FILE)
STUDENT_FILES = (*NETWORK_FILES, STUDENT_FILE)
ITEM_VECTOR, KEYPHRASE_VECTOR = "item_vector", "keyphrase_vector"
"""Outputs of ``encoder.onnx``, float32 (rows, dims[0]), not normalised; its inputs are every encoder's."""


class ManifestError(QuorumError, ValueError):
    """A student or a version cannot be read, or its files are not the ones it names."""

    code = "RETRIEVER_INVALID"


class StudentManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``student.json``.

    Attributes:
        dims: Dimensions that its vectors may be cut to, descending; the first is all of them.
        max_tokens: Longest text, special tokens included; the rest is not read.
        base: Name of the base model's folder, and hash of its weights.
        licence: Of the base; "" where its folder states none.
        data: Name of each source -> hash of it, and counts.
        settings: How it was trained: losses, epochs, seed, weights of tasks.
        figures: On held-out queries: figure -> value, and intervals.
        remarks: For people.
        files: Name of a file -> ``sha256:...``.
    """

    schema_version: Literal[1] = 1
    kind: Literal["student"] = "student"
    dims: tuple[int, ...]
    max_tokens: int
    base: Mapping[str, str] = {}
    licence: str = ""
    data: Mapping[str, Any] = {}
    settings: Mapping[str, Any] = {}
    figures: Mapping[str, Any] = {}
    remarks: tuple[str, ...] = ()
    files: Mapping[str, str] = {}

    def __post_init__(self) -> None:
        """Refuse, as ValueError, one that cannot be served."""
        if not self.dims or list(self.dims) != sorted({*self.dims}, reverse=True) or self.dims[-1] < 1:
            raise ValueError(f"dims are {list(self.dims)}, expected positive numbers, the largest first")
        if not 4 <= self.max_tokens <= 8192:
            raise ValueError(f"max_tokens is {self.max_tokens}, expected 4 to 8192")


class RetrieverManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``retriever.json``, in the folder of a version.

    Attributes:
        student: ``sha256:...`` of the ``encoder.onnx`` that embedded the keyphrases.
        dims: Dimensions of the vectors.
        index: How they are searched.
        keyphrases: How many there are.
        recall: Share of the exact 50 nearest that the index finds, in [0, 1]; 1 for an exact one.
        sources: Name of each source -> its hash, and what was left out.
        created: ISO 8601, UTC.
        files: Name of a file -> ``sha256:...``, all files of the folder but this one.
    """

    schema_version: Literal[1] = 1
    kind: Literal["retriever"] = "retriever"
    student: str
    dims: int
    index: Literal["exact", "usearch"]
    keyphrases: int
    recall: float = 1.0
    sources: Mapping[str, Any] = {}
    created: str = ""
    files: Mapping[str, str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The files of such a version but this one; ``files`` of a sound one names just these."""
        return (*STUDENT_FILES, KEYPHRASES_FILE, VECTORS_FILE if self.index == "exact" else GRAPH_FILE)

    @property
    def content_hash(self) -> str:
        """``sha256:...`` of what decides its answers: the files."""
        text = msgspec.json.encode(dict(sorted(self.files.items())))
        return f"sha256:{hashlib.sha256(text).hexdigest()}"


Manifest = TypeVar("Manifest", StudentManifest, RetrieverManifest)


def file_hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Name -> hash of these files of a folder."""
    return {name: hash_file(folder / name) for name in names}


def first_line(error: Exception) -> str:
    """The first line of an error of a library, for a message of one line."""
    return str(error).partition("\n")[0][:200] or type(error).__name__


def write_manifest(folder: Path, manifest: StudentManifest | RetrieverManifest) -> None:
    """Write the manifest into its folder, atomically."""
    name = STUDENT_FILE if isinstance(manifest, StudentManifest) else RETRIEVER_FILE
    write_atomic(folder / name, msgspec.json.format(msgspec.json.encode(manifest), indent=2).decode() + "\n")


def read_student(folder: Path) -> StudentManifest:
    """Read ``student.json``; its files are not checked.

    Raises:
        ManifestError: It is missing or damaged.
    """
    return _read(folder / STUDENT_FILE, StudentManifest, "make the student again with `quorum distill`")


def read_retriever(folder: Path) -> RetrieverManifest:
    """Read ``retriever.json``; its files are not checked.

    Raises:
        ManifestError: It is missing or damaged.
    """
    return _read(folder / RETRIEVER_FILE, RetrieverManifest, "make the version again with `quorum index`")


def check_student(folder: Path) -> StudentManifest:
    """Read a student, and check that its files are the ones it names.

    Raises:
        ManifestError: They are not.
    """
    found = read_student(folder)
    _check_names(folder / STUDENT_FILE, found.files, NETWORK_FILES, "quorum distill")
    _check_files(folder, found.files, "quorum distill")
    return found


def check_retriever(folder: Path) -> tuple[RetrieverManifest, StudentManifest]:
    """Read a version, and check that its files are the ones it names and belong to each other.

    Raises:
        ManifestError: A file is missing or another one, or the index is of another encoder.
    """
    found, student = read_retriever(folder), read_student(folder)
    _check_names(folder / RETRIEVER_FILE, found.files, found.names, "quorum index")
    _check_names(folder / STUDENT_FILE, student.files, NETWORK_FILES, "quorum distill")
    _check_files(folder, found.files, "quorum index")
    for name in NETWORK_FILES:
        if student.files[name] != found.files[name]:
            raise ManifestError(
                f"{folder}: {name} is not the one that {STUDENT_FILE} describes; make the version again with"
                " `quorum index`"
            )
    encoder = found.files[ENCODER_FILE]
    if found.student != encoder:
        raise ManifestError(
            f"{folder}: the index is of the encoder {found.student:.23}..., the folder holds"
            f" {encoder:.23}...; make the version again with `quorum index`"
        )
    if found.dims not in student.dims:
        raise ManifestError(
            f"{folder}: the index has {found.dims} dimensions, the encoder"
            f" {', '.join(map(str, student.dims))}; make the version again with `quorum index`"
        )
    return found, student


def _read(path: Path, kind: type[Manifest], again: str) -> Manifest:
    if not path.exists():
        raise ManifestError(f"{path} is missing; {again}")
    _refuse_special(path)
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ManifestError(f"{path} cannot be read ({error}); {again}") from error


def _refuse_special(path: Path) -> None:
    """Refuse what may lead to any file of the machine, as a link, or never end, as a pipe."""
    if path.is_symlink() or not path.is_file():
        raise ManifestError(f"{path} is no regular file; put a copy of the file there")


def _check_names(manifest: Path, stated: Iterable[str], names: Sequence[str], maker: str) -> None:
    """Refuse a manifest that states other files: one could lie anywhere ("../state.json"), or be code."""
    if foreign := [name for name in stated if name not in names]:
        raise ManifestError(
            f"{manifest} names {foreign[0]!r}, which is no file that `{maker}` writes; make the folder again"
            " with that"
        )
    if missing := [name for name in names if name not in stated]:
        raise ManifestError(f"{manifest} states no hash of {missing[0]}; make it again with `{maker}`")


def _check_files(folder: Path, stated: Mapping[str, str], maker: str) -> None:
    for name, expected in stated.items():
        path = folder / name
        if not path.exists():
            raise ManifestError(f"{path} is missing; copy the whole folder again, or make it with `{maker}`")
        _refuse_special(path)
        if (actual := hash_file(path)) != expected:
            raise ManifestError(
                f"{path} is not the file that was written with it: its hash is {actual:.23}..., expected is"
                f" {expected:.23}...; copy the whole folder again, or make it with `{maker}`"
            )

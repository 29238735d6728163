# SPDX-License-Identifier: Apache-2.0
"""``quorum index``: a version is complete and searchable, always the same, and never half made."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command import quorum, quorum_json
from support.killed_index import PART, STEPS, killed, made
from support.retrievers import WORDS, Encoder, write_version

from quorum.files import locked
from quorum.operations import index as operation
from quorum.operations.index import IndexOptions, index_keyphrases
from quorum.retrieval import embed, graph
from quorum.retrieval.graph import build_graph, recall_of
from quorum.retrieval.index import MISSING, open_index
from quorum.retrieval.keyphrase_lines import KeyphrasesError
from quorum.retrieval.keyphrases import Keyphrases
from quorum.retrieval.manifest import (
    ENCODER_FILE,
    GRAPH_FILE,
    VECTORS_FILE,
    ManifestError,
    check_retriever,
)
from quorum.retrieval.vectors import Vectors, cut

PHRASES = [f"{first} {second}" for first in WORDS[:12] for second in WORDS[15:23]]
PARTS = 5
"""Parts that they are embedded in here."""


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student")
    Encoder().write(folder)
    return folder


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "PART", PART)


@pytest.fixture
def keyphrases(tmp_path: Path) -> Path:
    path = tmp_path / "keyphrases.txt"
    path.write_text("\n".join(PHRASES), "utf-8")
    return path


@pytest.mark.parametrize("kind", ["exact", "usearch"])
def test_a_version_is_what_the_server_opens(keyphrases: Path, student: Path, kind: Any) -> None:
    report = made(keyphrases, student, index=kind)
    manifest, _ = check_retriever(report.out)
    assert manifest.content_hash == report.content_hash
    assert (manifest.index, manifest.dims, manifest.keyphrases) == (kind, 8, len(PHRASES))
    assert Keyphrases(report.out).texts(np.arange(3)) == PHRASES[:3]
    index, wanted = open_index(report.out, manifest), Encoder().keyphrases(PHRASES)
    rows, scores = index(wanted, 1)
    # Half precision tells two of these apart, but rounds.
    np.testing.assert_allclose(scores[:, 0], 1, atol=2e-3)
    assert ((wanted[rows[:, 0]] * wanted).sum(1) > 0.999).all()
    assert not [path.name for path in report.out.parent.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("kind", ["exact", "usearch"])
def test_equal_inputs_give_an_equal_content_hash(keyphrases: Path, student: Path, kind: Any) -> None:
    first, second = (made(keyphrases, student, name, index=kind) for name in ("first", "second"))
    assert first.content_hash == second.content_hash
    other = made(keyphrases, student, "other", index=kind, dims=4)
    assert other.content_hash != first.content_hash


def test_the_size_decides_how_it_is_searched(
    keyphrases: Path, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operation, "LARGEST_EXACT", len(PHRASES))
    assert made(keyphrases, student).index == "exact"
    monkeypatch.setattr(operation, "LARGEST_EXACT", len(PHRASES) - 1)
    report = made(keyphrases, student, "more")
    assert (report.index, report.recall) == ("usearch", 1.0)
    assert not (report.out / VECTORS_FILE).exists()


def test_recall_counts_what_a_graph_does_not_find() -> None:
    draw = np.random.default_rng(0)
    vectors = cut(draw.standard_normal((300, 8)).astype(np.float32), 8)

    def half(queries: Vectors, k: int) -> tuple[Any, Any]:
        scores = queries @ vectors.T
        rows = np.argsort(-scores, 1)[:, :k]
        rows[:, k // 2 :] = MISSING
        return rows, np.take_along_axis(scores, rows, 1)

    assert recall_of(half, vectors[:20], vectors) == pytest.approx(0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("numbers", ["f16", "i8"])
def test_a_graph_of_thousands_finds_nearly_all(tmp_path: Path, numbers: Any) -> None:
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((100, 32))
    vectors = cut((centres[np.arange(3000) % 100] + draw.standard_normal((3000, 32))).astype(np.float32), 32)
    build_graph(vectors, tmp_path / GRAPH_FILE, numbers)
    found = graph.recall_of(_opened(tmp_path), vectors[:100], vectors)
    assert found > (0.99 if numbers == "f16" else 0.93)


def _opened(folder: Path) -> Any:
    from quorum.retrieval.index import Graph

    return Graph(folder / GRAPH_FILE)


KILLS = ["after part#3", "after graph", "before rename", "after rename"]
if os.environ.get("QUORUM_LONG"):
    KILLS += ["after sync#2", *(f"{when} {step}" for step in STEPS for when in ("before", "after"))]


@pytest.mark.parametrize("kill", KILLS)
def test_a_killed_run_leaves_nothing_half_made_and_goes_on(
    keyphrases: Path, student: Path, clean: str, kill: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert killed(keyphrases, student, kill) == -signal.SIGKILL
    out = keyphrases.with_name("out")
    if out.exists():
        check_retriever(out)
        assert kill in ("after rename", "after sync#2")
    embedded = _counted(monkeypatch, embed, "_write")
    report = made(keyphrases, student, index="usearch")
    left = {"before read": PARTS, "after read": PARTS, "before part": PARTS, "after part": PARTS - 1}
    assert embedded[0] == left.get(kill, PARTS - 3 if kill == "after part#3" else 0)
    assert report.content_hash == clean
    assert sorted(path.name for path in out.parent.iterdir()) == ["keyphrases.txt", "out"]


STRIDE = 1 if os.environ.get("QUORUM_LONG") else 15
"""File operations from one kill to the next."""


def test_killed_before_any_file_operation(student: Path, clean: str, tmp_path: Path) -> None:
    """There is no version, or a whole one; the same command then makes the same one, and leaves no more."""
    operation, code = 0, -signal.SIGKILL
    while True:
        folder = tmp_path / str(operation)
        folder.mkdir()
        keyphrases = folder / "keyphrases.txt"
        # A line is broken, so that its file is written too.
        keyphrases.write_text("\n".join([*PHRASES, "n\0"]), "utf-8")
        code = killed(keyphrases, student, f"operation#{operation}") or 0
        if code == 0:
            break
        assert code == -signal.SIGKILL
        out = folder / "out"
        if out.exists():
            check_retriever(out)
        report = made(keyphrases, student, index="usearch")
        assert (report.content_hash, report.broken) == (clean, {"control characters": 1}), operation
        left = ["keyphrases.txt", "out", "out.left-out.jsonl"]
        assert sorted(path.name for path in folder.iterdir()) == left, operation
        operation += STRIDE
    assert operation > 30


@pytest.fixture(scope="module")
def clean(student: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Content hash of a run that nobody kills."""
    path = tmp_path_factory.mktemp("clean") / "keyphrases.txt"
    path.write_text("\n".join(PHRASES), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed, "PART", PART)
        return made(path, student, index="usearch").content_hash


def _counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[int]:
    count, original = [0], getattr(owner, name)

    def wrapped(*arguments: Any) -> Any:
        count[0] += 1
        return original(*arguments)

    monkeypatch.setattr(owner, name, wrapped)
    return count


def _full(*_: Any) -> None:
    raise OSError(28, "full")


def _leave_parts(keyphrases: Path, student: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as patch:
        patch.setattr(operation, "_write_table", _full)
        with pytest.raises(OSError, match="full"):
            made(keyphrases, student)
    return keyphrases.with_name(".out.parts")


@pytest.mark.parametrize("change", ["encoder", "keyphrase", "damaged"])
def test_parts_of_other_sources_are_not_taken(
    keyphrases: Path, student: Path, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = sorted(_leave_parts(keyphrases, student, monkeypatch).glob("*.npy"))
    assert len(parts) == PARTS
    if change == "encoder":
        student = tmp_path / "student"
        Encoder(seed=1).write(student)
    elif change == "keyphrase":
        keyphrases.write_text("\n".join(["wool lamp", *PHRASES[1:]]))
    else:
        parts[0].write_bytes(parts[0].read_bytes()[:-9])
    written = _counted(monkeypatch, embed, "_write")
    report = made(keyphrases, student)
    assert written[0] == (PARTS if change == "encoder" else 1)
    manifest, _ = check_retriever(report.out)
    wanted = Encoder(1 if change == "encoder" else 0).keyphrases(Keyphrases(report.out).texts(np.arange(96)))
    np.testing.assert_allclose(open_index(report.out, manifest).vectors(np.arange(96)), wanted, atol=1e-5)


def _damage(student: Path) -> None:
    (student / ENCODER_FILE).write_bytes(b"\0" + (student / ENCODER_FILE).read_bytes()[1:])


def _name_another(student: Path) -> None:
    text = (student / "student.json").read_text("utf-8")
    (student / "student.json").write_text(text.replace('"files": {', '"files": {"../keys": "sha256:0",'))


def _link(student: Path) -> None:
    (student / ENCODER_FILE).rename(student / "elsewhere")
    (student / ENCODER_FILE).symlink_to("elsewhere")


@pytest.mark.parametrize(
    ("spoil", "settings", "words"),
    [
        (lambda out, _: (out.mkdir(), (out / "mine").touch()), {}, "holds 'mine' already"),
        (lambda out, _: out.write_text("mine"), {}, "is a file"),
        (lambda _, student: _damage(student), {}, "is not the file that was written with it"),
        (lambda _, student: (student / "student.json").unlink(), {}, "is missing"),
        (lambda _, student: _name_another(student), {}, r"student\.json names '\.\./keys', which is no file"),
        (lambda _, student: _link(student), {}, r"encoder\.onnx is no regular file"),
        (lambda *_: None, {"dims": 5}, "may be cut to 8, 4"),
        (lambda *_: None, {"blocklist": Path("nowhere.txt")}, "the blocklist nowhere.txt cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    keyphrases: Path,
    tmp_path: Path,
    spoil: Callable[[Path, Path], Any],
    settings: Any,
    words: str,
) -> None:
    student, out = tmp_path / "student", keyphrases.with_name("out")
    Encoder().write(student)
    spoil(out, student)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ManifestError, match=words):
        made(keyphrases, student, **settings)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_parts_of_a_finished_version_go(
    keyphrases: Path, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a run is killed after it has named its folder."""
    parts, out = _leave_parts(keyphrases, student, monkeypatch), keyphrases.with_name("out")
    write_version(out, {"red shoe": []}, Encoder())
    with locked(parts / "lock"), pytest.raises(ManifestError, match="holds"):
        made(keyphrases, student)
    assert any(parts.glob("*.npy")), "another run has them"
    with pytest.raises(ManifestError, match="holds"):
        made(keyphrases, student)
    assert not parts.exists()


def test_two_runs_do_not_make_one_version(keyphrases: Path, student: Path) -> None:
    parts = keyphrases.with_name(".out.parts")
    parts.mkdir()
    (parts / "lock").touch()
    with locked(parts / "lock"), pytest.raises(BlockingIOError):
        made(keyphrases, student)
    assert made(keyphrases, student).keyphrases == len(PHRASES)


def test_too_many_broken_lines_leave_only_their_names(keyphrases: Path, student: Path) -> None:
    keyphrases.write_bytes(keyphrases.read_bytes() + b"\nn\x00")
    out = keyphrases.with_name("out")
    with pytest.raises(KeyphrasesError, match="more than --max-bad 1% allows"):
        index_keyphrases(keyphrases, student, out, IndexOptions(engine="onnxruntime"))
    assert sorted(p.name for p in out.parent.iterdir()) == ["keyphrases.txt", "out.left-out.jsonl"]


def test_the_command(keyphrases: Path, student: Path) -> None:
    keyphrases.write_bytes(keyphrases.read_bytes() + b"\nRED wallet!\nn\x00")
    run = partial(quorum, keyphrases.parent, "index", keyphrases, "--encoder", student, "--max-bad", "2%")
    report = quorum_json(keyphrases.parent, *run.args[1:], "--out", "first")
    assert (report["keyphrases"], report["duplicates"]) == (len(PHRASES), 1)
    assert report["broken"] == {"control characters": 1}
    out, err = run("--out", "second", "--index", "usearch")
    assert out == ""
    assert "1 broken line (1 control characters): see" in err
    assert "next: `quorum publish second`" in err

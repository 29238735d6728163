# SPDX-License-Identifier: Apache-2.0
"""Damaged votes tables in every format: rows, or a VotesError that names the file; soon, in little memory."""

from __future__ import annotations

import json
import random
import resource
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support.mutate import LONG, LONG_FORM, as_json, damaged, mutated, patience

from quorum.votes import VotesError, read_votes, write_votes
from quorum.votes.read import count_rows, read_members, read_rows
from quorum.votes.schema import Cell, Origin
from quorum.votes.stream import read_statistic
from quorum.votes.table import build_table

pytestmark = LONG_FORM
FUZZED = 20_000 if LONG else 200
LONGEST_MESSAGE = 30_000
MOST_KIB = 200_000
"""More memory, in KiB, than to read files of a few kB takes; what is as large as a file claims takes more."""
MEMBERS = ("llama", "qwen", "gpt")
CELLS = [
    Cell(
        f"p{product}",
        "shoes" if product % 2 else "",
        f"title größe {product}",
        attribute,
        (f"v{product % 3}", None if product % 5 == 0 else "n/a", "soft cotton"),
        ("v0", "v1") if product % 2 else (),
        Origin("quorum", 3, 1.5, None) if product % 3 else None,
        (-0.5, None, -1.0) if product % 4 else (),
    )
    for product in range(12)
    for attribute in ("brand", "size")
]
READERS: tuple[Callable[[Path], object], ...] = (
    read_votes,
    read_statistic,
    read_members,
    count_rows,
    lambda path: list(read_rows(path, identified=False)),
)


def whole(folder: Path, ending: str) -> bytes:
    if ending != "jsonl":
        pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
    path = folder / f"whole.{ending}"
    write_votes(build_table(MEMBERS, CELLS), path)
    return path.read_bytes()


def mangled_lines(draw: random.Random, content: bytes) -> bytes:
    """Lines of which one or two are damaged, as JSON or as bytes."""
    if draw.random() < 0.3:
        return damaged(draw, content, draw.choice([1, 2, 3]))
    lines = content.decode().splitlines()
    for _ in range(draw.choice([1, 1, 2])):
        at = draw.randrange(len(lines))
        tree = mutated(draw, json.loads(draw.choice(content.decode().splitlines())), draw.choice([1, 1, 2]))
        lines[at] = as_json(tree)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def mangled_columns(draw: random.Random, content: bytes) -> bytes:
    """Bytes of which a few are others, half of them in the footer, which is at the end of such files."""
    if draw.random() < 0.3:
        return damaged(draw, content)
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 5])):
        at = draw.randrange(len(changed)) if draw.random() < 0.5 else -1 - draw.randrange(len(changed) // 3)
        changed[at] = draw.choice([changed[at] ^ 1 << draw.randrange(8), 0, 0x7F, 0x80, 0xFF])
    return bytes(changed)


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "arrow"])
def test_damaged_tables_are_refused_with_their_name_or_read(tmp_path: Path, ending: str) -> None:
    draw, found = random.Random(6), Counter[bool]()
    content, path = whole(tmp_path, ending), tmp_path / f"votes.{ending}"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(FUZZED):
        path.write_bytes((mangled_lines if ending == "jsonl" else mangled_columns)(draw, content))
        for read in READERS:
            try:
                with patience():
                    read(path)
                message = ""
            except VotesError as error:
                message = str(error)
            found[not message] += 1
            assert not message or str(path) in message
            assert len(message.encode()) < LONGEST_MESSAGE
    assert min(found[False], found[True]) > FUZZED // 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KIB


def test_what_is_read_of_damaged_lines_can_be_written_again(tmp_path: Path) -> None:
    draw, read = random.Random(7), 0
    content, path = whole(tmp_path, "jsonl"), tmp_path / "votes.jsonl"
    for _ in range(FUZZED // 3):
        path.write_bytes(mangled_lines(draw, content))
        try:
            table = read_votes(path)
        except VotesError:
            continue
        read += 1
        write_votes(table, tmp_path / "again.jsonl")
        assert read_votes(tmp_path / "again.jsonl").cells == table.cells
    assert read > FUZZED // 60


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_a_name_of_a_column_that_is_no_text_is_damage(tmp_path: Path, ending: str) -> None:
    content, path = whole(tmp_path, ending), tmp_path / f"votes.{ending}"
    assert content.count(b"category") > 0
    path.write_bytes(content.replace(b"category", b"ca\xffegory"))
    for read in READERS:
        with pytest.raises(VotesError, match=rf"votes\.{ending}: cannot be read .*; is it cut off\?"):
            read(path)


def test_a_file_without_votes_is_named_by_every_reader(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_bytes(b"\n\n")
    for read in (read_votes, lambda path: read_statistic(path, members=MEMBERS)):
        with pytest.raises(VotesError, match=r"empty\.jsonl: no votes"):
            read(path)

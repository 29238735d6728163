# SPDX-License-Identifier: Apache-2.0
"""Files of keyphrases: every format, every kind of broken line, and what is the same for a buyer."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from quorum.retrieval.keyphrase_lines import LONGEST_LINE, Broken, Keyphrase, KeyphrasesError, read_lines
from quorum.retrieval.keyphrase_table import Gathered, gather_keyphrases

BROKEN = {
    b"nul\x00": "control characters",
    b"\x1b[31mred": "control characters",
    b"unit\x1fseparator": "control characters",
    "\x85next line".encode(): "control characters",
    b"": "empty",
    b"  \t ": "empty",
    b"caf\xe9": "not UTF-8",
    b"\xed\xa0\x80": "not UTF-8",
    b"x" * 129: "longer than 128 bytes",
    "ü".encode() * 65: "longer than 128 bytes",
    b"?!": "without a letter or digit",
}


def gathered(path: Path, max_bad: str = "1%", blocked: Any = ()) -> Gathered:
    return gather_keyphrases(path, path.with_name("left-out.jsonl"), max_bad, blocked)


def rows(found: Gathered) -> list[tuple[str, list[str]]]:
    return [(row["keyphrase"], row["categories"]) for row in found.table.to_pylist()]


@pytest.mark.parametrize("raw", BROKEN)
def test_a_broken_line_of_text_is_named_with_its_reason(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "k.txt"
    path.write_bytes(b"red shoes\n" + raw + b"\n" + b"x" * 128 + b"\r\nblue")
    first, broken, longest, last = read_lines(path)
    assert isinstance(broken, Broken)
    assert (broken.line, broken.reason) == (2, BROKEN[raw])
    assert [line.text for line in (first, longest, last)] == ["red shoes", "x" * 128, "blue"]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"[]", "no JSON object"),
        (b'{"keyphrase": "red', "no JSON object"),
        (b'{"keyphrase": 7}', "the keyphrase is a int, not a text"),
        (b'{"phrase": "red"}', "empty"),
        (b'{"keyphrase": "a\\u0000b"}', "control characters"),
        (b'{"keyphrase": "red", "categories": 3}', "categories are a int, not a list"),
        (b'{"keyphrase": "red", "categories": [3]}', "a category is a int, not a text"),
        (b'{"keyphrase": "red", "category": "%s"}' % (b"c" * 257), "a category has more than 256 bytes"),
        (b'{"keyphrase": "caf\xe9"}', "not UTF-8"),
        (b"[" * 100_000, "no JSON object"),
    ],
)
def test_a_broken_line_of_json(tmp_path: Path, raw: bytes, reason: str) -> None:
    path = tmp_path / "k.jsonl"
    path.write_bytes(raw + b'\n{"keyphrase": "blue", "category": "shoes"}\n')
    broken, good = read_lines(path)
    assert isinstance(broken, Broken)
    assert broken.reason.startswith(reason)
    assert good == Keyphrase("blue", ("shoes",), "blue")


def test_an_open_quotation_mark_does_not_swallow_the_file(tmp_path: Path) -> None:
    path = tmp_path / "k.csv"
    path.write_bytes(b'\xef\xbb\xbfcategory,keyphrase\nA,"red\nB,"blue, dark"\nC\nD,caf\xe9\n')
    first, second, third, fourth = read_lines(path)
    assert (first.line, first.reason) == (2, "a quotation mark stays open, or stands inside")
    assert second == Keyphrase("blue, dark", ("B",), "blue dark")
    assert [third.reason, fourth.reason] == ["empty", "not UTF-8"]


def test_a_line_without_end_is_read_with_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "k.txt.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(8):
            file.write(b"x" * LONGEST_LINE)
        file.write(b"\nred\n")
    broken, good = read_lines(path)
    assert (broken.reason, len(broken.content), good.text) == ("longer than 128 bytes", 200, "red")


KEYPHRASES = [("Red Shoes", ["A", "B"]), ("blue  shoe", []), ("red shoe!", ["C", "A"]), ("wool", ["D"])]


@pytest.mark.parametrize("name", ["k.jsonl", "k.jsonl.gz", "k.csv", "k.csv.gz", "k.parquet"])
def test_every_format_gives_the_same_keyphrases(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "k.parquet":
        texts, categories = zip(*KEYPHRASES, strict=True)
        columns = {"keyphrase": pa.array(texts).dictionary_encode(), "categories": categories}
        pq.write_table(pa.table(columns), path)
    else:
        if "csv" in name:
            lines = ["keyphrase,categories", *(f"{text},{'|'.join(names)}" for text, names in KEYPHRASES)]
        else:
            lines = [json.dumps({"keyphrase": text, "categories": names}) for text, names in KEYPHRASES]
        content = "\n".join(lines).encode()
        path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    found = gathered(path)
    assert rows(found) == [("Red Shoes", ["A", "B", "C"]), ("blue shoe", []), ("wool", ["D"])]
    assert found.table.column("normal").to_pylist() == ["red shoe", "blue shoe", "wool"]
    assert (found.lines, found.duplicates, found.blocked) == (4, 1, 0)


def test_parquet_whose_texts_are_no_utf8(tmp_path: Path) -> None:
    texts = pa.array([b"red", b"caf\xe9", None], pa.binary())
    raw = pa.StringArray.from_buffers(3, texts.buffers()[1], texts.buffers()[2], texts.buffers()[0])
    pq.write_table(pa.table({"keyphrase": raw, "category": ["A", None, "B"]}), tmp_path / "k.parquet")
    good, second, third = read_lines(tmp_path / "k.parquet")
    assert good == Keyphrase("red", ("A",), "red")
    assert [(line.line, line.reason) for line in (second, third)] == [(2, "not UTF-8"), (3, "empty")]


def test_a_keyphrase_of_all_categories_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "k.csv"
    path.write_text("keyphrase,category\nred,A\nRED,\nred,B\nblue,A\n")
    assert rows(gathered(path)) == [("red", []), ("blue", ["A"])]


def test_what_is_blocked_is_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "k.txt"
    path.write_text("red\nBlue Shoes\nblue shoe\n")
    found = gathered(path, blocked={"blue shoe"})
    assert (rows(found), found.blocked, found.duplicates) == ([("red", [])], 2, 0)
    with pytest.raises(KeyphrasesError, match="all 3 keyphrases are on the blocklist"):
        gathered(path, blocked={"blue shoe", "red"})


def test_too_many_broken_lines_end_the_run_and_are_named(tmp_path: Path) -> None:
    path, dead = tmp_path / "k.txt", tmp_path / "left-out.jsonl"
    path.write_bytes(b"red %d\n" * 2 % (1, 2) + b"\x00\n" * 2)
    with pytest.raises(KeyphrasesError, match=r"2 of 4 lines are broken \(2 control characters\)"):
        gathered(path)
    assert [json.loads(line)["line"] for line in dead.read_text().splitlines()] == [3, 4]
    for allowed in ("2", "50%"):
        assert len(gathered(path, allowed).table) == 2
    with pytest.raises(KeyphrasesError):
        gathered(path, "49.9%")
    path.write_text("red\n")
    gathered(path)
    assert not dead.exists()


@pytest.mark.parametrize("wrong", ["x", "-1", "nan", "inf", "", "%"])
def test_a_wrong_number_of_bad_lines(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(KeyphrasesError, match="--max-bad"):
        gathered(tmp_path / "k.txt", wrong)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("k.txt", b"", "is empty"),
        ("k.docx", b"red", "cannot tell the format"),
        ("k.parquet.gz", b"red", "cannot tell the format"),
        ("k.csv", b"phrase;category\nred;A\n", "names the columns phrase;category"),
        ("k.parquet", b"PAR1", "cannot be read as Parquet"),
        ("k.txt.gz", gzip.compress(b"red shoes\n" * 99, mtime=0)[:-12], "cannot be unpacked"),
        ("k.txt.gz", b"red", "cannot be unpacked"),
        ("k.txt", None, "is no file"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeyphrasesError, match=words):
        gathered(path)


@pytest.mark.slow
def test_many_lines_of_which_one_in_a_hundred_is_broken(tmp_path: Path) -> None:
    path, lines = tmp_path / "k.txt", 1_000_000 if os.environ.get("QUORUM_LONG") else 200_000
    with path.open("wb") as file:
        for number in range(lines):
            file.write(b"nul \x00\n" if number % 100 == 7 else b"keyphrase %d\n" % number)
    found = gathered(path)
    assert (len(found.table), sum(found.broken.values()), found.lines) == (lines * 0.99, lines * 0.01, lines)
    # 60 bytes of Arrow each; Python's strings would be four times that.
    assert found.table.nbytes < 80 * lines

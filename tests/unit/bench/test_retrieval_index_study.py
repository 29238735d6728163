# SPDX-License-Identifier: Apache-2.0
"""``quorum-bench study retrieval-index`` on a tiny encoder and few keyphrases."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from support.retrievers import WORDS, Encoder

from quorum_bench.studies.retrieval_index import line, rows


@pytest.mark.slow
def test_rows_say_how_an_index_grows(tmp_path: Path) -> None:
    Encoder().write(tmp_path / "student")
    texts = [f"{a} {b}" for a in WORDS for b in WORDS]
    for name, key in (("items", "title"), ("keyphrases", "keyphrase")):
        content = "\n".join(json.dumps({key: text}) for text in texts)
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress(content.encode(), mtime=0))
    kinds = ("exact", "usearch f16")
    found = list(rows(tmp_path, tmp_path / "student", (100, 1000), (8,), kinds))
    assert [(row["keyphrases"], row["index"]) for row in found] == [
        (size, kind) for size in (100, 1000) for kind in kinds
    ]
    assert [row["recall"] for row in found[::2]] == [1, 1]
    assert all(row["recall"] > 0.95 for row in found)
    assert "build_x10" not in found[0]
    assert found[2]["file_mb"] / found[0]["file_mb"] == pytest.approx(10, rel=0.2)
    assert all(len(line(row)) == len(line(found[0])) for row in found)

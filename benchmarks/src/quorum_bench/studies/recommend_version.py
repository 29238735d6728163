# SPDX-License-Identifier: Apache-2.0
"""Make versions of a retriever with as many keyphrases as wanted, from few real ones.

A keyphrase that is not real joins two that are. All are embedded, in two minutes for 10^5, as a version whose
vectors are not those of its encoder is refused.
"""

from __future__ import annotations

import gzip
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from quorum.files import hash_file
from quorum.retrieval.encode import TextEncoder, encode_in_parts
from quorum.retrieval.filters import normal_form
from quorum.retrieval.manifest import (
    ENCODER_FILE,
    KEYPHRASES_FILE,
    STUDENT_FILES,
    VECTORS_FILE,
    RetrieverManifest,
    file_hashes,
    write_manifest,
)
from quorum.retrieval.vectors import Vectors, cut


@dataclass(frozen=True, slots=True)
class Made:
    """Keyphrases with their vectors.

    Attributes:
        texts: The real ones first.
        forms: Their normal forms, all different.
        vectors: (n, dims), each of length 1.
        real: How many are real.
        embed_ms: CPU time of embedding one.
    """

    texts: Sequence[str]
    forms: Sequence[str]
    vectors: Vectors
    real: int
    embed_ms: float


def lines(path: Path) -> Iterator[Any]:
    """The rows of a ``.jsonl.gz``."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def make_keyphrases(data: Path, encoder: Path, size: int, dims: int) -> Made:
    """Join pairs of the real keyphrases until there are ``size``, and embed all.

    Args:
        data: Folder ``keyphrases`` of the public data.
        encoder: Folder of a student.
        size: At most some millions.
        dims: Of the vectors.

    Raises:
        ManifestError: The encoder cannot be opened.
        OSError: Data are missing.
    """
    found: dict[str, str] = {}
    for row in lines(data / "keyphrases.jsonl.gz"):
        found.setdefault(normal_form(row["keyphrase"]), row["keyphrase"])
    forms, texts = [*found][:size], [*found.values()][:size]
    real, rng = len(texts), np.random.default_rng(0)
    while len(found) < size:
        first, second = rng.integers(real, size=2).tolist()
        form = f"{forms[first]} {forms[second]}"
        if form not in found:
            found[form] = f"{texts[first]} {texts[second]}"
    texts, began = [*found.values()], time.process_time()
    encode = TextEncoder(encoder, threads=0).keyphrases
    vectors = cut(encode_in_parts(encode, texts, "keyphrases", lambda _: None), dims)
    return Made(texts, [*found], vectors, real, (time.process_time() - began) / len(texts) * 1e3)


def write_version(made: Made, encoder: Path, folder: Path, less: int = 0) -> Path:
    """Write the folder of a version with an exact index, without the last ``less`` keyphrases."""
    folder.mkdir(parents=True)
    for name in STUDENT_FILES:
        shutil.copyfile(encoder / name, folder / name)
    count = len(made.texts) - less
    columns = {
        "keyphrase": pa.array(made.texts[:count], pa.string()),
        "categories": pa.array([[]] * count, pa.list_(pa.string())),
        "normal": pa.array(made.forms[:count], pa.string()),
    }
    pq.write_table(pa.table(columns), folder / KEYPHRASES_FILE, compression="zstd")
    np.save(folder / VECTORS_FILE, made.vectors[:count])
    write_manifest(
        folder,
        RetrieverManifest(
            student=hash_file(folder / ENCODER_FILE),
            dims=made.vectors.shape[1],
            index="exact",
            keyphrases=count,
            files=file_hashes(folder, (*STUDENT_FILES, KEYPHRASES_FILE, VECTORS_FILE)),
        ),
    )
    return folder

# SPDX-License-Identifier: Apache-2.0
"""Read ESCI's official files (arXiv 2206.06588, amazon-science/esci-data) as listings with gold.

US judgements by their own split. The product's text is title, brand, colour and bullet points.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

EXAMPLES = "shopping_queries_dataset_examples.parquet"
PRODUCTS = "shopping_queries_dataset_products.parquet"
LOCALE = "us"
LABELS: Mapping[str, str] = {"E": "exact", "S": "substitute", "C": "complement", "I": "irrelevant"}
TEXTS = ("product_title", "product_brand", "product_color", "product_bullet_point")
_JUDGED = ("example_id", "query", "query_id", "product_id", "product_locale", "esci_label", "split")
_KEYS = ("product_id", "product_locale")


def read_esci(folder: Path, split: str, rows: int | None = None, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield judgements as listings of the fields ``query`` and ``title``, with the label as gold.

    Products are read for the judgements drawn only, so that a part of the 2.6 million fits any memory.

    Args:
        folder: With both parquet files.
        split: ``train`` or ``test``, as the files have it.
        rows: Draw so many; None: all.
        seed: Of the draw.

    Raises:
        ValueError: A file is missing, lacks a column, or has another label.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = [("split", "=", split), ("product_locale", "=", LOCALE)]
    judged = _read(folder / EXAMPLES, _JUDGED, wanted)
    if rows is not None and rows < len(judged):
        judged = judged.take(sorted(random.Random(seed).sample(range(len(judged)), rows)))
    products = _read(folder / PRODUCTS, (*_KEYS, *TEXTS), [("product_locale", "=", LOCALE)])
    needed = pa.array(pc.unique(judged["product_id"]).to_pylist(), products["product_id"].type)
    products = products.filter(pc.is_in(products["product_id"], value_set=needed))
    texts = {
        (row["product_id"], row["product_locale"]): _joined(row[name] for name in TEXTS)
        for batch in products.to_batches()
        for row in batch.to_pylist()
    }
    for batch in judged.to_batches():
        for row in batch.to_pylist():
            text = texts.get((row["product_id"], row["product_locale"]))
            if text and str(row["query"]).strip():
                yield _listing(folder / EXAMPLES, row, text)


def _listing(path: Path, row: Mapping[str, Any], text: str) -> dict[str, Any]:
    label = LABELS.get(str(row["esci_label"]))
    if label is None:
        known = ", ".join(LABELS)
        raise ValueError(
            f"{path}: example {row['example_id']} has the label {row['esci_label']!r}; known are {known}"
        )
    return {
        "id": str(row["example_id"]),
        "query": _joined([row["query"]]),
        "title": text,
        "gold": {"relevance": [label]},
    }


def _read(path: Path, columns: tuple[str, ...], filters: list[tuple[str, str, str]]) -> Any:
    import pyarrow.parquet as pq

    if not path.is_file():
        raise ValueError(f"{path} is missing; --esci names the folder with {EXAMPLES} and {PRODUCTS}")
    have = pq.read_schema(path).names
    if lacking := [name for name in columns if name not in have]:
        raise ValueError(f"{path} has no column {lacking[0]!r}; it has {', '.join(have)}")
    return pq.read_table(path, columns=list(columns), filters=filters)


def _joined(parts: Any) -> str:
    """Texts as one line."""
    return " ".join(" ".join(part.split()) for part in parts if part)

# SPDX-License-Identifier: Apache-2.0
"""Time an encoder by each engine on one core, next to PyTorch where its checkpoint and PyTorch are there.

All compute the same batches of the same texts, in turn, so that a busy machine slows all alike; ratios are
over rounds. Tokenising and decoding are the same for all and timed apart.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from quorum.runtimes.base import RuntimeConfigError, RuntimeSettings
from quorum.runtimes.encoder_engine import Compute, Logits, Tokens, open_network
from quorum.runtimes.encoder_folder import read_encoder
from quorum.runtimes.options import EncoderOptions
from quorum_bench.bootstrap import paired_ratio

Row = dict[str, Any]
Batch = tuple[Tokens, Tokens]
ENGINES: Mapping[str, tuple[str, str]] = {
    "openvino f32": ("openvino", "f32"),
    "openvino bf16": ("openvino", "bf16"),
    "onnxruntime f32": ("onnxruntime", "f32"),
    "onnxruntime int8": ("onnxruntime", "int8"),
}
TORCH = "pytorch f32"
REFERENCE = "openvino f32"
CHECKPOINT = "checkpoint"
SIZES = (1, 32)
MOST_DIFFERENCE = 1e-4
"""Largest difference of f32 logits to PyTorch's that is rounding."""

HEAD = (
    f"{'engine':<18}{'batch':>6}{'p50 ms':>9}{'p99 ms':>9}{'texts/s':>9}  {'texts/s to ' + REFERENCE:<26}"
    f"{'max difference':>15}{'same answer %':>15}"
)


def line(row: Row) -> str:
    """A row as text."""
    ratio, gap = row["ratio"], row["difference"]
    cells = f"{row['engine']:<18}{row['batch']:>6}{row['p50_ms']:>9.2f}{row['p99_ms']:>9.2f}{row['per_s']:>9.0f}"
    shown = f"{ratio['value']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]"
    return f"{cells}  {shown:<26}{gap:>15.1e}{100 * row['same']:>15.2f}"


def measure(
    folder: Path, networks: Mapping[str, Compute], encoded: Sequence[Sequence[int]], rounds: int
) -> Iterator[Row]:
    """Yield a row per batch size and engine.

    Args:
        folder: That ``quorum tune`` made.
        networks: Of :func:`open_all`.
        encoded: Token ids of texts; at least 32.
        rounds: Of every engine in turn, each over a part of the texts.

    Differences and answers (the largest logit of each row, or of each token) are to PyTorch's where it is
    there, else to those of :data:`REFERENCE`.

    Raises:
        ValueError: Too few texts.
    """
    if len(encoded) < max(SIZES):
        raise ValueError(f"{len(encoded)} texts are too few; give at least {max(SIZES)}")
    head = read_encoder(folder).head
    with one_core():
        for size in SIZES:
            batches = list(itertools.islice(itertools.cycle(_batches(encoded, size)), max(rounds, 8)))
            times = _in_turn(networks, batches)
            yield from _rows(head, networks, times, batches, size)


def open_all(folder: Path) -> tuple[dict[str, Compute], dict[str, str]]:
    """Open the network by every engine that is here; of the others why not.

    Raises RuntimeConfigError if the folder cannot be served.
    """
    dims = read_encoder(folder).dims
    found: dict[str, Compute] = {}
    absent: dict[str, str] = {}
    for name, (engine, precision) in ENGINES.items():
        options = EncoderOptions(model=folder.name, engine=engine, precision=precision)  # type: ignore[arg-type]
        try:
            found[name] = open_network(RuntimeSettings("study", folder.parent, options), dims).compute
        except RuntimeConfigError as error:
            if name == REFERENCE:
                raise
            absent[name] = str(error)
    try:
        found[TORCH] = _open_torch(folder / CHECKPOINT)
    except (ImportError, OSError, KeyError, ValueError) as error:
        absent[TORCH] = f"{folder / CHECKPOINT}: {error}"
    return found, absent


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _open_torch(checkpoint: Path) -> Compute:
    """The checkpoint that the network was exported from, by Transformers on one thread."""
    architecture = json.loads((checkpoint / "config.json").read_text("utf-8"))["architectures"][0]
    torch = importlib.import_module("torch")
    kind = getattr(importlib.import_module("transformers"), architecture)
    torch.set_num_threads(1)
    model = kind.from_pretrained(checkpoint, dtype=torch.float32).eval()

    def compute(ids: Tokens, mask: Tokens) -> Logits:
        with torch.inference_mode():
            found = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
        if "logits" in found:
            return np.asarray(found["logits"])
        return np.stack([np.asarray(found["start_logits"]), np.asarray(found["end_logits"])], axis=-1)

    return compute


def _batches(encoded: Sequence[Sequence[int]], size: int) -> list[Batch]:
    """Batches of similar length in mixed order, padded to the longest of each."""
    ordered = sorted(encoded, key=len)
    parts = [ordered[at : at + size] for at in range(0, len(ordered) - size + 1, size)]
    made = []
    for index in np.random.default_rng(0).permutation(len(parts)):
        part = parts[index]
        ids = np.zeros((size, max(map(len, part))), np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(part):
            ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        made.append((ids, mask))
    return made


def _in_turn(networks: Mapping[str, Compute], batches: Sequence[Batch]) -> dict[str, list[float]]:
    """Seconds of each batch by each network, after one round of warm-up."""
    times: dict[str, list[float]] = {name: [] for name in networks}
    for number, batch in enumerate([batches[0], *batches]):
        for name, compute in networks.items():
            start = time.perf_counter()
            compute(*batch)
            if number:
                times[name].append(time.perf_counter() - start)
    return times


def _rows(
    head: str,
    networks: Mapping[str, Compute],
    times: Mapping[str, list[float]],
    batches: Sequence[Batch],
    size: int,
) -> Iterator[Row]:
    truth = TORCH if TORCH in networks else REFERENCE
    some = batches[:8]
    expected = [networks[truth](*batch) for batch in some]
    for name, compute in networks.items():
        seconds = np.array(times[name])
        compared = map(partial(_compared, head), some, expected, (compute(*batch) for batch in some))
        gaps, same = zip(*compared, strict=True)
        yield {
            "engine": name,
            "batch": size,
            "rounds": len(batches),
            "p50_ms": 1e3 * float(np.median(seconds)),
            "p99_ms": 1e3 * float(np.quantile(seconds, 0.99)),
            "per_s": size * len(seconds) / float(seconds.sum()),
            "ratio": asdict(paired_ratio(times[REFERENCE], times[name])),
            "against": truth,
            "difference": float(max(gaps)),
            "same": float(np.mean(same)),
        }


def _compared(head: str, batch: Batch, expected: Logits, found: Logits) -> tuple[float, float]:
    """Largest difference of logits, and share of equal choices, without padding."""
    if head == "value":
        # The choice is a position, for the first and for the last token.
        kept = batch[1].astype(bool)[:, None, :]
        expected, found = expected.swapaxes(1, 2), found.swapaxes(1, 2)
        same = np.where(kept, expected, -np.inf).argmax(-1) == np.where(kept, found, -np.inf).argmax(-1)
        gap = np.abs(np.where(kept, expected - found, 0.0))
        return float(gap.max()), float(same.mean())
    if head == "spans":
        kept = batch[1].astype(bool)
        expected, found = expected[kept], found[kept]
    same = expected.argmax(-1) == found.argmax(-1)
    return float(np.abs(expected - found).max()), float(same.mean())


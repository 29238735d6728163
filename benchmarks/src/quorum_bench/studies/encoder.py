# SPDX-License-Identifier: Apache-2.0
"""Time an encoder by each engine on one core, next to PyTorch where that and the base model are there.

All compute the same batches of the same texts, in turn, so that a busy machine slows all alike. Texts per
second and ratios go by CPU time, which others on the core do not change; p50 and p99 by the clock. Tokenising
and decoding are the same for all and not part of it.
"""

from __future__ import annotations

import importlib
import itertools
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from quorum.bulk.listings import read_listings
from quorum.runtimes.base import RuntimeConfigError, RuntimeSettings
from quorum.runtimes.encoder_engine import Compute, open_network
from quorum.runtimes.encoder_folder import MODEL_FILE, TOKENIZER_FILE, EncoderFile, read_encoder
from quorum.runtimes.encoder_input import EncoderInput
from quorum.runtimes.onnx_network import Floats, Tokens
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
SIZES = (1, 32)

HEAD = (
    f"{'engine':<18}{'batch':>6}{'p50 ms':>9}{'p99 ms':>9}{'per CPU s':>11}  {'to ' + REFERENCE:<26}"
    f"{'max difference':>15}{'same answer %':>15}"
)


def line(row: Row) -> str:
    """A row as text."""
    ratio, gap = row["ratio"], row["difference"]
    cells = f"{row['engine']:<18}{row['batch']:>6}{row['p50_ms']:>9.2f}{row['p99_ms']:>9.2f}"
    cells += f"{row['per_cpu_s']:>11.0f}"
    shown = f"{ratio['value']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]"
    return f"{cells}  {shown:<26}{gap:>15.1e}{100 * row['same']:>15.2f}"


def encode(folder: Path, texts: Path) -> tuple[list[list[int]], float]:
    """Tokenise texts as the runtime does: their token ids, and microseconds of each.

    Raises:
        ListingsError: The texts cannot be read.
        EncoderFileError: The folder is no encoder.
    """
    described = read_encoder(folder)
    tokenize = EncoderInput(Tokenizer.from_file(str(folder / TOKENIZER_FILE)), described)
    listings = read_listings(texts, fields=described.fields)
    start = time.perf_counter()
    found = [
        tokenize.encode(
            listing.text, listing.category, described.attributes[number % len(described.attributes)]
        )
        for number, listing in enumerate(listings)
    ]
    seconds = time.perf_counter() - start
    return [row.ids.tolist() for row in found], 1e6 * seconds / len(found)


def measure(
    folder: Path, networks: Mapping[str, Engine], encoded: Sequence[Sequence[int]], rounds: int
) -> Iterator[Row]:
    """Yield a row per batch size and engine.

    Args:
        folder: That ``quorum tune`` made.
        networks: Of :func:`open_all`.
        encoded: Token ids of texts; at least 32.
        rounds: Of every engine in turn, each over a part of the texts.

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


class Engine(NamedTuple):
    """What computes, and the same network by :data:`REFERENCE`, whose logits it is compared with."""

    compute: Compute
    reference: Compute


def open_all(folder: Path, base: Path | None) -> tuple[dict[str, Engine], dict[str, str]]:
    """Open the network by every engine that is here; of the others why not.

    Args:
        folder: That ``quorum tune`` made.
        base: The model that it was tuned from, for PyTorch.

    Raises RuntimeConfigError if the folder cannot be served.
    """
    described = read_encoder(folder)
    found: dict[str, Compute] = {}
    absent: dict[str, str] = {}
    for name, (engine, precision) in ENGINES.items():
        options = EncoderOptions(model=folder.name, engine=engine, precision=precision)  # type: ignore[arg-type]
        try:
            found[name] = open_network(RuntimeSettings("study", folder.parent, options), described.dims)
        except RuntimeConfigError as error:
            if name == REFERENCE:
                raise
            absent[name] = str(error)
    engines = {name: Engine(compute, found[REFERENCE]) for name, compute in found.items()}
    try:
        if base is None:
            raise ValueError("name the base model by --base")
        engines[TORCH] = Engine(*_open_torch(base, described))
    except (ImportError, OSError, ValueError) as error:
        absent[TORCH] = str(error)
    return engines, absent


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _open_torch(base: Path, described: EncoderFile) -> tuple[Compute, Compute]:
    """The network that tuning begins with, by PyTorch on one thread and by :data:`REFERENCE`.

    Its time is that of the tuned one, which is not kept for PyTorch.
    """
    torch = importlib.import_module("torch")
    made = importlib.import_module("quorum.tune.encoder_model")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_file(str(base / TOKENIZER_FILE))
    ids = (tokenizer.token_to_id(name) for name in ("[SEP]", "</s>"))
    separator = next((number for number in ids if number is not None), None)
    network = made.load_network(base, described.head, described.outputs, separator, "full").eval()
    with tempfile.TemporaryDirectory() as folder:
        importlib.import_module("quorum.tune.onnx_export").export(network, Path(folder) / MODEL_FILE)
        options = EncoderOptions(model=folder)
        exported = open_network(RuntimeSettings("study", Path(folder), options), described.dims)

    def compute(ids: Tokens, mask: Tokens) -> Floats:
        with torch.inference_mode():
            return np.asarray(network(torch.from_numpy(ids), torch.from_numpy(mask)))

    return compute, exported


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


def _in_turn(
    networks: Mapping[str, Engine], batches: Sequence[Batch]
) -> dict[str, list[tuple[float, float]]]:
    """Seconds of each batch by each network, by the clock and of CPU, after a round of every shape."""
    shapes = {batch[0].shape: batch for batch in batches}
    for engine, batch in itertools.product(networks.values(), shapes.values()):
        engine.compute(*batch)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in networks}
    for batch in batches:
        for name, (compute, _) in networks.items():
            start, cpu = time.perf_counter(), time.process_time()
            compute(*batch)
            times[name].append((time.perf_counter() - start, time.process_time() - cpu))
    return times


def _rows(
    head: str,
    networks: Mapping[str, Engine],
    times: Mapping[str, list[tuple[float, float]]],
    batches: Sequence[Batch],
    size: int,
) -> Iterator[Row]:
    some = batches[:8]
    for name, (compute, reference) in networks.items():
        seconds, cpu = np.array(times[name]).T
        compared = [_compared(head, batch, reference(*batch), compute(*batch)) for batch in some]
        gaps, same = zip(*compared, strict=True)
        yield {
            "engine": name,
            "batch": size,
            "rounds": len(batches),
            "p50_ms": 1e3 * float(np.median(seconds)),
            "p99_ms": 1e3 * float(np.quantile(seconds, 0.99)),
            "per_cpu_s": size * len(cpu) / float(cpu.sum()),
            "ratio": asdict(paired_ratio([c for _, c in times[REFERENCE]], [c for _, c in times[name]])),
            "difference": float(max(gaps)),
            "same": float(np.mean(same)),
        }


def _compared(head: str, batch: Batch, expected: Floats, found: Floats) -> tuple[float, float]:
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

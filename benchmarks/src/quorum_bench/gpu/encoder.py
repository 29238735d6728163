# SPDX-License-Identifier: Apache-2.0
"""Serve one encoder twice, by a Triton model on the GPU and by the member's own CPU, and compare the two.

The weights are random, in the shape of a small public encoder. Unverified on GPU.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import yaml

from quorum.deployment import Deployment, load_deployment
from quorum.repository.encoder_config import CACHE, encoders
from quorum.repository.render import render
from quorum.runtimes.encoder_folder import (
    MODEL_FILE,
    SCHEMA_VERSION,
    TOKENIZER_FILE,
    EncoderFile,
    write_encoder,
)
from quorum.runtimes.heads.spans import tags_of
from quorum_bench.gpu.graph import load_graph, serving
from quorum_bench.gpu.worker import PATIENCE_S, Row, gpu_memory_mib, listings
from quorum_bench.workload import Product, Workload
from quorum_client import AsyncClient, Vote
from quorum_contract import Status

ATTRIBUTE, TYPES = "entities", ("brand", "color", "thing")
MAX_TOKENS = 128
SIDES = ("cpu", "gpu")


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a BERT; ``like`` is the public model with them."""

    hidden: int
    inner: int
    layers: int
    heads: int
    vocabulary: int
    like: str


ENCODERS = {
    "tiny-bert": Shape(32, 64, 1, 4, 4096, "none, for tests"),
    "minilm": Shape(384, 1536, 6, 12, 30_522, "all-MiniLM-L6-v2, 22.6 million parameters"),
}


def make_encoder(shape: str, folder: Path) -> Path:
    """Write network and tokenizer of an encoder of spans with random weights, unless they are there.

    Needs PyTorch, Transformers and ONNX; returns ``folder``, which has no ``encoder.json`` yet.
    """
    if (folder / MODEL_FILE).is_file():
        return folder
    import torch
    from transformers import BertConfig, BertModel

    from quorum.tune.encoder_model import Network
    from quorum.tune.onnx_export import export

    size = ENCODERS[shape]
    folder.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(folder / TOKENIZER_FILE)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        attn_implementation="eager",
    )
    bert = BertModel(config, add_pooling_layer=False)
    unfinished = folder / f"{MODEL_FILE}.new"
    export(Network(bert, "spans", len(tags_of(TYPES)), None).eval(), unfinished)
    unfinished.rename(folder / MODEL_FILE)
    return folder


def _write_tokenizer(path: Path) -> None:
    """A WordPiece tokenizer learned from the listings."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    made = Tokenizer(models.WordPiece())
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=4096, special_tokens=special, show_progress=False)
    made.train_from_iterator([product.text for product in listings().products], trainer)
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.save(str(path))


def compare_encoders(
    model: Path,
    folder: Path,
    *,
    packages: Path | None,
    concurrencies: Sequence[int],
    seconds: float,
    rounds: int,
    count: int,
    say: Callable[[str], None],
) -> Row:
    """Ask both sides the same listings, then load them in turn.

    Args:
        model: Of :func:`make_encoder`.
        folder: For the deployments and all logs.
        packages: Of the stand-in, which computes on the CPU; None: the backend of the server.
        concurrencies: Requests in flight.
        seconds: Length of one load.
        rounds: Loads of each side.
        count: Listings that are answered.
        say: Called with each step.

    Returns:
        Votes that were given and that are equal, the largest difference of a score (None: one has none),
        files of compiled engines, and the rounds of both sides per concurrency.
    """
    specs = {side: _deployment(folder / side, model, on_gpu=side == "gpu") for side in SIDES}
    _describe(model, specs["gpu"])
    work = Workload(tuple(Product(p.text, p.category, (ATTRIBUTE,)) for p in listings().products))
    before = gpu_memory_mib()
    with ExitStack() as stack:
        urls = {}
        for side, spec in specs.items():
            say(f"starting the {side} side{', which compiles for minutes' if side == 'gpu' else ''}")
            render(spec)
            if packages:
                _keep_to_cpu(spec)
            server = stack.enter_context(serving(spec, packages, folder / side))
            urls[side] = server.endpoint.grpc_url
        memory = {"before": before, "with_both": gpu_memory_mib()}
        asked = work.products[:count]
        figures = _compared(*(asyncio.run(_votes(urls[side], asked)) for side in SIDES))
        for url in urls.values():
            load_graph(url, max(concurrencies), seconds, work)
        loads = []
        for concurrency in concurrencies:
            pairs = []
            for number in range(rounds):
                say(f"{concurrency} at once, round {number + 1} of {rounds}")
                turns = SIDES if number % 2 == 0 else SIDES[::-1]
                pairs.append({side: load_graph(urls[side], concurrency, seconds, work) for side in turns})
            loads.append(_summed(concurrency, pairs))
    engines = [path for path in (model / CACHE).glob("*") if path.is_file()]
    return {
        **figures,
        "engine_files": None if packages else len(engines),
        "loads": loads,
        "gpu_mib": memory,
    }


def _deployment(folder: Path, model: Path, *, on_gpu: bool) -> Deployment:
    options = {"model": str(model), "triton": on_gpu}
    spec = {
        "members": [
            {"name": "encoder", "runtime": "encoder", "timeout_s": PATIENCE_S, "options": options},
        ],
        "gate": {"timeout_s": PATIENCE_S, "max_timeout_s": PATIENCE_S},
        "attributes": {ATTRIBUTE: {"kind": "spans", "values": list(TYPES)}},
        "server": {"grpc_port": 0, "http_port": 0, "metrics_port": 0},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "deploy.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return load_deployment(path)


def _describe(model: Path, spec: Deployment) -> None:
    """Write ``encoder.json`` for the deployment's catalogue."""
    described = EncoderFile(
        schema_version=SCHEMA_VERSION,
        head="spans",
        attributes=(ATTRIBUTE,),
        labels=tags_of(TYPES),
        max_tokens=MAX_TOKENS,
        catalogue={ATTRIBUTE: spec.catalogue().hashes[ATTRIBUTE]},
    )
    write_encoder(described, model)


def _keep_to_cpu(spec: Deployment) -> None:
    """Tell Triton that the network needs no GPU, as the stand-in does not."""
    for name in encoders(spec):
        config = spec.repository_path / name / "config.pbtxt"
        config.write_text(config.read_text("utf-8").replace("KIND_GPU", "KIND_CPU"), "utf-8")


async def _votes(url: str, products: Sequence[Product]) -> list[Vote]:
    async with AsyncClient(url, retries=False, timeout_s=PATIENCE_S) as client:
        found = [await client.extract(p.text, [ATTRIBUTE], category=p.category) for p in products]
    return [result.answers[0].votes[0] for result in found]


def _compared(cpu: Sequence[Vote], gpu: Sequence[Vote]) -> Row:
    gaps = [
        None if one.score is None or other.score is None else abs(one.score - other.score)
        for one, other in zip(cpu, gpu, strict=True)
    ]
    known = [gap for gap in gaps if gap is not None]
    return {
        "of": len(gpu),
        "answered": {
            side: sum(vote.status == Status.ANSWERED for vote in votes)
            for side, votes in zip(SIDES, (cpu, gpu), strict=True)
        },
        "same": sum(one.value == other.value for one, other in zip(cpu, gpu, strict=True)),
        "largest_gap": max(known) if len(known) == len(gaps) else None,
    }


def _summed(concurrency: int, pairs: Sequence[Row]) -> Row:
    """Medians over rounds; the ratio is taken within a round."""
    medians = {
        f"{side}_{key}": statistics.median(pair[side][key] for pair in pairs)
        for side in SIDES
        for key in ("rate", "p50_ms", "p95_ms")
    }
    return {
        "concurrency": concurrency,
        **medians,
        "ratio": statistics.median(pair["gpu"]["rate"] / pair["cpu"]["rate"] for pair in pairs),
        "failed": sum(pair[side]["failed"] for pair in pairs for side in SIDES),
        "abstained": sum(pair[side]["abstained"] for pair in pairs for side in SIDES),
        "rounds": list(pairs),
    }

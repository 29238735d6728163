# SPDX-License-Identifier: Apache-2.0
"""Check the members and the graph around them on a GPU, part by part, into one results file.

Parts, for each model:

  answers   greedy answers against Transformers, token by token; guided answers all valid; prompt tokens
            that came from the KV cache
  batching  dynamic against continuous batching, taking turns (runtime hf)
  graph     one member in the serving graph against its bare runtime, taking turns: what the graph costs
  ensemble  several members against as many bare runtimes; redeploys under load

and for an encoder:

  encoder   a member whose network is a Triton model with TensorRT against one that computes on the CPU
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from quorum.server.install import ServerNotFound, find_install
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.parse import parse_answer
from quorum_bench.environment import describe_environment
from quorum_bench.gpu.models import SHAPES, make_checkpoint
from quorum_bench.gpu.report import ENCODER, PARTS
from quorum_bench.gpu.results_file import CheckError, read_results, write_results
from quorum_bench.gpu.worker import ASKED, CATALOGUE, ROOT, Row, Subject, Worker, listings
from quorum_contract import Status

STANDIN = ROOT / "tests" / "standin"
STANDIN_MODEL = ROOT / "examples" / "demo" / "models" / "demo-llama"
# What the stand-in's model and the machine that it runs on can take.
STANDIN_OPTIONS: Row = {"kv_cache_gib": 0.5, "max_batch_size": 32, "max_seq_len": 512}
# Room for KV cache, activations and the CUDA context of one process.
ROOM_BYTES = 3 << 30
WORK = ROOT / ".cache" / "gpu-check"
_PACKAGES = ("torch", "transformers", "llguidance", "peft", "tensorrt-llm", "onnxruntime")
_BACKEND = "onnxruntime"


@dataclass(slots=True)
class Options:
    """Options of a check.

    Attributes:
        runtime: Of the members.
        standin: Let a stand-in answer for ``tensorrt_llm``, on a CPU.
        option: Options of the runtime.
        shapes: Keys of :data:`quorum_bench.gpu.models.SHAPES`; default by the device.
        checkpoints: Real ones.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.
        members: Of the ensemble; fewer where they do not fit.
        concurrency: Requests in flight.
        seconds: Length of one load.
        rounds: Loads of each side.
        new_tokens: Longest answer.
        prompts: Listings that are answered; four times as many under guidance.
        redeploys: Of an ensemble under load.
        only: ``MODEL`` or ``MODEL/PART``; all by default.
        again: Measure anew what the results file holds.
        results: File; default by date and device.
        work: Folder of checkpoints and logs.
        say: Called with each step.
    """

    runtime: str = "hf"
    standin: bool = False
    option: Mapping[str, Any] = field(default_factory=dict)
    shapes: Sequence[str] = ()
    checkpoints: Sequence[Path] = ()
    device: str = "auto"
    members: int = 3
    concurrency: Sequence[int] = (1, 8, 32)
    seconds: float = 10.0
    rounds: int = 3
    new_tokens: int = 128
    prompts: int = 16
    redeploys: int = 6
    only: Sequence[str] = ()
    again: bool = False
    results: Path | None = None
    work: Path = WORK
    say: Callable[[str], None] = lambda _: None
    subject: Subject = field(init=False)
    file: Path = field(init=False)

    @property
    def encoder(self) -> str:
        """Shape of the encoder, a key of ``ENCODERS``."""
        return "tiny-bert" if self.device == "cpu" else "minilm"

    def __post_init__(self) -> None:
        unknown = [shape for shape in self.shapes if shape not in SHAPES]
        if unknown:
            raise CheckError(f"no shape {unknown[0]!r}; there are {', '.join(SHAPES)}")
        self.subject = Subject(self.runtime)
        if self.standin:
            if self.runtime != "tensorrt_llm":
                raise CheckError("--standin stands in for --runtime tensorrt_llm only")
            self.subject = Subject(self.runtime, "bare", STANDIN)
            self.device, self.shapes, self.checkpoints = "cpu", (), (STANDIN_MODEL,)
        self.device = _resolve(self.device)
        self.work = self.work.resolve()
        if not self.shapes and not self.checkpoints:
            self.shapes = ("tiny",) if self.device == "cpu" else ("1b", "8b")
        device = _device_name(self.device).replace(" ", "-").lower()
        self.file = self.results or ROOT / "benchmarks" / "results" / f"{_now()[:10]}-gpu-{device}.json"


def check(options: Options) -> Row:
    """Run the parts that are wanted and not yet measured, and write each as soon as it is known.

    Returns:
        ``MODEL/PART`` -> its figures, of this run and of those that the results file held.

    Raises:
        CheckError: No such part, or a results file of another form.
    """
    results = read_results(options.file)
    results["machine"] = describe_environment(_PACKAGES)
    models = _models(options)
    known = [(options.runtime, name, part) for name in models for part in PARTS if part != ENCODER]
    known.append((ENCODER, options.encoder, ENCODER))
    wanted = [(kind, name, part) for kind, name, part in known if _is_wanted(f"{name}/{part}", options.only)]
    if not wanted:
        named = ", ".join(f"{name}/{part}" for _, name, part in known)
        raise CheckError(f"--only {' '.join(options.only)} names no part; there are: {named}")
    for kind, name, part in wanted:
        key = f"{kind}-{name}/{part}"
        if key in results["parts"] and not options.again:
            options.say(f"{key}: measured already, in {options.file.name} (--again measures anew)")
            continue
        options.say(key)
        try:
            figures = encoder(options) if part == ENCODER else _RUN[part](options, name, models[name]())
        except Exception as error:
            figures = {"error": f"{type(error).__name__}: {error}"}
            options.say(f"{key}: {figures['error']}")
        results["parts"][key] = figures | {"device": _device_name(options.device), "date": _now()}
        write_results(options.file, results)
    parts: Row = results["parts"]
    return parts


def _models(options: Options) -> dict[str, Callable[[], Path]]:
    """Name -> function that returns its checkpoint's folder; random ones are made at first need."""
    models: dict[str, Callable[[], Path]] = {}
    texts = [f"{product.text}\n" for product in listings().products]
    for shape in options.shapes:
        models[shape] = partial(make_checkpoint, shape, options.work / shape, texts, options.device)
    for folder in options.checkpoints:
        models[folder.resolve().name] = folder.resolve
    return models


def _member(options: Options, checkpoint: Path) -> Row:
    """Options of a member on that checkpoint."""
    base: Row = {"model": str(checkpoint)}
    if options.runtime == "tensorrt_llm":
        base |= {"max_tokens": options.new_tokens} | (STANDIN_OPTIONS if options.standin else {})
    else:
        base |= {"max_new_tokens": options.new_tokens, "device": options.device}
    return base | dict(options.option)


def _copy(options: Options, checkpoint: Path, folder: Path) -> Path:
    """Return the checkpoint for one member: a copy where members on the same one would share it.

    Copies of one file system are links, so that they cost nothing; the stand-in writes next to its model.
    """
    if options.runtime != "tensorrt_llm":
        return checkpoint
    return Path(shutil.copytree(checkpoint, folder, copy_function=os.link))


def answers(options: Options, name: str, checkpoint: Path) -> Row:
    """Compare greedy answers with Transformers' own; check guided answers against the schema."""
    work, subject = _log_folder(options, name), options.subject
    given = _member(options, _copy(options, checkpoint, _emptied(work / "checkpoint")))
    figures: Row = {} if options.standin else _against_transformers(options, checkpoint, given, work)
    with Worker("bare", subject, given, work / "guided.log") as worker:
        texts = worker.call("answers", count=4 * options.prompts, together=True)["answers"]
        figures["guided"] = {"answers": len(texts), "valid": sum(map(_is_valid, texts))}
        figures |= worker.call("prompt_tokens")
        figures["memory"] = worker.call("memory")
    return figures | (_instructed(options, given, work) if options.standin else {})


def _instructed(options: Options, given: Row, work: Path) -> Row:
    """Reuse of prompts that are instructions; the stand-in's model is asked in shorter ones otherwise."""
    short = given | {"guided": False, "max_tokens": 4, "max_seq_len": 2048}
    with Worker("bare", replace(options.subject, style="instruct"), short, work / "instructed.log") as worker:
        worker.call("answers", count=options.prompts, together=False)
        return worker.call("prompt_tokens")


def _against_transformers(options: Options, checkpoint: Path, given: Row, work: Path) -> Row:
    subject = options.subject
    plain = {"model": str(checkpoint), "device": options.device, "max_new_tokens": options.new_tokens}
    with Worker("reference", subject, plain, work / "reference.log") as worker:
        expected = worker.call("answers", count=options.prompts, together=False)
    figures: Row = {"prompts": options.prompts, "tokens": sum(expected["tokens"])}
    with Worker("bare", subject, given | {"guided": False}, work / "free.log") as worker:
        for way, together in (("alone", False), ("together", True)):
            texts = worker.call("answers", count=options.prompts, together=together)["answers"]
            same = [text == other for text, other in zip(texts, expected["answers"], strict=True)]
            equal = map(_equal_tokens, texts, expected["prefixes"])
            figures[way] = {"same_answers": sum(same), "same_tokens": sum(equal)}
    return figures


def _equal_tokens(text: str, prefixes: Sequence[str]) -> int:
    """The number of the expected answer's tokens that the text begins with."""
    return max(number for number, prefix in enumerate(prefixes) if text.startswith(prefix))


def _is_valid(text: str) -> bool:
    try:
        keys = list(json.loads(text))
    except ValueError:
        return False
    votes = parse_answer(Catalogue.load(CATALOGUE), ASKED, text)
    return keys == list(ASKED) and all(vote.status == Status.ANSWERED for vote in votes)


def batching(options: Options, name: str, checkpoint: Path) -> Row:
    """Measure both ways of batching of runtime ``hf``, in turn."""
    if options.runtime != "hf":
        return {"skipped": "only runtime hf has two ways of batching"}
    ways, work, rounds = ("dynamic", "continuous"), _log_folder(options, name), []
    for number in range(options.rounds):
        for way in ways if number % 2 == 0 else ways[::-1]:
            member = _member(options, checkpoint) | {"batching": way}
            with Worker("bare", options.subject, member, work / f"{way}.log") as worker:
                worker.call("load", concurrency=max(options.concurrency), seconds=options.seconds / 4)
                for concurrency in options.concurrency:
                    options.say(f"{way}, {concurrency} at once, round {number + 1} of {options.rounds}")
                    load = worker.call("load", concurrency=concurrency, seconds=options.seconds)
                    load |= worker.call("memory")
                    rounds.append({"batching": way, "concurrency": concurrency} | load)
    loads = [
        {"batching": way, "concurrency": concurrency}
        | _medians([load for load in rounds if (load["batching"], load["concurrency"]) == (way, concurrency)])
        for concurrency in options.concurrency
        for way in ways
    ]
    return {"loads": loads, "rounds": rounds}


def _medians(rounds: Sequence[Row]) -> Row:
    return {key: statistics.median(load[key] for load in rounds) for key in ("rate", "p50_ms", "p95_ms")}


def one_member(options: Options, name: str, checkpoint: Path) -> Row:
    """Compare one member in the graph with its bare runtime."""
    return _compared(options, name, checkpoint, ["alone"], "graph")


def ensemble(options: Options, name: str, checkpoint: Path) -> Row:
    """Compare several members on one device with as many bare runtimes on it."""
    count = _fitting(options, checkpoint)
    names = [f"member-{number}" for number in range(1, count + 1)]
    return _compared(options, name, checkpoint, names, "ensemble")


def _fitting(options: Options, checkpoint: Path) -> int:
    """Return the number of members that fit the GPU together with as many bare runtimes."""
    wanted = options.members
    if options.device == "cpu":
        return wanted
    import torch

    weights = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
    free, _ = torch.cuda.mem_get_info(options.device)
    fitting = max(1, int(free // (2 * (weights + ROOM_BYTES))))
    if fitting < wanted:
        options.say(f"{fitting} members instead of {wanted}: each is loaded twice, {free >> 30} GiB are free")
    return min(fitting, wanted)


def _compared(options: Options, name: str, checkpoint: Path, names: Sequence[str], part: str) -> Row:
    if lack := _lack_of_server():
        return {"skipped": f"graph not measured: {lack}"}
    from quorum_bench.gpu import graph

    folder = _emptied(options.work / "run" / name / part)
    members = {name: _member(options, _copy(options, checkpoint, folder / name)) for name in names}
    return graph.compare(
        options.subject,
        members,
        folder=folder,
        concurrencies=options.concurrency,
        seconds=options.seconds,
        rounds=options.rounds,
        redeploys=options.redeploys,
        say=options.say,
    )


def _lack_of_server() -> str:
    """What is missing for the parts with the graph; the others need no Triton. Empty: nothing."""
    try:
        import_module("quorum_bench.gpu.graph")
        find_install()
    except ImportError as error:
        return f"{error.name or error} is not installed"
    except (ServerNotFound, OSError) as error:
        return str(error)
    return ""


def encoder(options: Options) -> Row:
    """Compare an encoder by ONNX Runtime with TensorRT inside Triton with the same one on the CPU."""
    lack = _lack_of_server()
    if options.device == "cpu" and not options.standin:
        lack = "needs a GPU, or --runtime tensorrt_llm --standin"
    elif not (lack or options.standin or (folder := find_install().backends / _BACKEND).is_dir()):
        lack = f"Triton has no {folder}; its images -py3 have that backend"
    elif not (lack or find_spec("onnxscript")):
        lack = "onnxscript is not installed: run `make setup-tune`"
    if lack:
        return {"skipped": lack}
    from quorum_bench.gpu.encoder import compare_encoders, make_encoder

    return compare_encoders(
        make_encoder(options.encoder, options.work / options.encoder),
        _emptied(options.work / "run" / options.encoder),
        packages=options.subject.packages,
        concurrencies=options.concurrency,
        seconds=options.seconds,
        rounds=options.rounds,
        count=4 * options.prompts,
        say=options.say,
    )


_RUN: dict[str, Callable[[Options, str, Path], Row]] = {
    "answers": answers,
    "batching": batching,
    "graph": one_member,
    "ensemble": ensemble,
}


def _resolve(device: str) -> str:
    if device == "cpu":
        return device
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not torch.cuda.is_available():
        raise CheckError(
            f"--device {device}: PyTorch {torch.__version__} sees no GPU here; use --device cpu, or install"
            " the build with CUDA: QUORUM_TORCH=cuda make setup-hf"
        )
    return device


def _device_name(device: str) -> str:
    if device == "cpu":
        return "CPU"
    import torch

    return str(torch.cuda.get_device_name(device))


def _is_wanted(part: str, only: Sequence[str]) -> bool:
    return not only or any(part == name or part.startswith(f"{name}/") for name in only)


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _log_folder(options: Options, name: str) -> Path:
    folder: Path = options.work / "run" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

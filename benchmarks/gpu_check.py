# SPDX-License-Identifier: Apache-2.0
"""Check the members and the graph around them on a GPU, in one command.

    make gpu-check                                        # random weights of 1B and 8B shape, runtime hf
    python benchmarks/gpu_check.py --checkpoint FOLDER    # a checkpoint of your own; repeat for more
    python benchmarks/gpu_check.py --only 1b/answers      # one part; what --out holds already is skipped
    python benchmarks/gpu_check.py --device cpu --shape tiny --seconds 1
    python benchmarks/gpu_check.py --runtime tensorrt_llm --standin       # its road, without TensorRT-LLM

Parts, for each model:

  answers   greedy answers against Transformers, token by token; guided answers all valid; prompt tokens
            that came from the KV cache
  batching  dynamic against continuous batching, taking turns (runtime hf)
  graph     one member in the serving graph against its bare runtime, taking turns: what the graph costs
  ensemble  several members against as many bare runtimes; redeploys under load

Everything goes into one results file as soon as it is measured, and into one table. Without a tritonserver
the last two parts say so and the others stand. Ends with 1 when a check failed or a target was missed.

On a bare machine PyTorch, Transformers, Accelerate and llguidance are enough for the first two parts:

    PYTHONPATH=ensemble_backend/src python3 benchmarks/gpu_check.py --only 1b/answers --out gpu.json
"""
# ruff: noqa: INP001, T201

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import gpu_graph
from gpu_models import SHAPES, make_checkpoint
from gpu_report import BAD, PARTS, judge, table
from gpu_worker import ATTRIBUTES, CATALOGUE, ROOT, Row, Subject, Worker, listings

from quorum.tasks.catalogue import Catalogue
from quorum.tasks.parse import parse_answer
from quorum_contract import Status

SCHEMA = 1
PROMPTS = 16
STANDIN_MODEL = ROOT / "examples" / "demo" / "models" / "demo-llama"
# What the stand-in's model and the machine that it runs on can take.
STANDIN_OPTIONS: Row = {"kv_cache_gib": 0.5, "max_batch_size": 32, "max_seq_len": 512}
# Room for KV cache, activations and the CUDA context of one process.
ROOM_BYTES = 3 << 30


def main() -> None:
    """Run the parts that are asked for and not yet measured; print the table."""
    options = _options()
    results = _read(options.out)
    results["machine"] = _machine()
    models = _models(options)
    wanted = [(name, part) for name in models for part in PARTS if _is_wanted(f"{name}/{part}", options.only)]
    if not wanted:
        known = ", ".join(f"{name}/{part}" for name in models for part in PARTS)
        sys.exit(f"--only {' '.join(options.only)} names no part; there are: {known}")
    for name, part in wanted:
        key = f"{options.runtime}-{name}/{part}"
        if key in results["parts"] and not options.again:
            _say(f"{key}: measured already, in {options.out.name} (--again measures anew)")
            continue
        _say(key)
        try:
            found = _RUN[part](options, name, models[name]())
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"}
            _say(f"{key}: {found['error']}")
        results["parts"][key] = found | {"device": _device_name(options.device), "date": _now()}
        _write(options.out, results)
    checks = judge(results["parts"])
    print(f"\n{table(results['parts'])}\n")
    for what, outcome, detail in checks:
        print(f"{outcome:12} {what}: {detail}")
    print(f"\n{options.out}")
    sys.exit(any(outcome in BAD for _, outcome, _ in checks))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--runtime", default="hf", help="runtime of the members (hf)")
    add("--standin", action="store_true", help="let the tests' stand-in answer for tensorrt_llm, on a CPU")
    add("--option", action="append", default=[], metavar="KEY=VALUE", help="one of its options; repeat")
    add("--shape", action="append", choices=SHAPES, help="random weights of that shape; repeat for more")
    add("--checkpoint", action="append", type=Path, help="a real checkpoint; repeat for more")
    add("--device", default="auto", help="cpu, cuda, cuda:N (the first GPU)")
    add("--members", type=int, default=3, help="members of the ensemble; fewer where they do not fit (3)")
    add("--concurrency", default="1,8,32", help="requests in flight (1,8,32)")
    add("--seconds", type=float, default=10, help="length of one load (10)")
    add("--rounds", type=int, default=3, help="loads of each side (3)")
    add("--new-tokens", type=int, default=128, help="longest answer (128)")
    add("--only", action="append", default=[], metavar="MODEL[/PART]", help="only these parts; repeat")
    add("--again", action="store_true", help="measure anew what the results file holds")
    add("--out", type=Path, help="results file (benchmarks/results/DATE-gpu-DEVICE.json)")
    add("--work", type=Path, default=ROOT / ".cache" / "gpu-check", help="folder of checkpoints and logs")
    options = parser.parse_args()
    options.subject = Subject(options.runtime)
    if options.standin:
        _stand_in(parser, options)
    options.device = _resolve(options.device)
    options.concurrency = [int(number) for number in options.concurrency.split(",")]
    options.option = dict(_option(pair) for pair in options.option)
    options.work = options.work.resolve()
    if not options.shape and not options.checkpoint:
        options.shape = ["tiny"] if options.device == "cpu" else ["1b", "8b"]
    if options.out is None:
        device = _device_name(options.device).replace(" ", "-").lower()
        options.out = ROOT / "benchmarks" / "results" / f"{_now()[:10]}-gpu-{device}.json"
    return options


def _stand_in(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.runtime != "tensorrt_llm":
        parser.error("--standin stands in for --runtime tensorrt_llm only")
    sys.path.insert(0, str(ROOT / "tests"))
    from support import standin

    options.subject = Subject(options.runtime, "bare", standin.STANDIN)
    options.device, options.shape, options.checkpoint = "cpu", [], [STANDIN_MODEL]


def _option(pair: str) -> tuple[str, Any]:
    """Numbers and truths as such, everything else as text."""
    key, _, value = pair.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _models(options: argparse.Namespace) -> dict[str, Callable[[], Path]]:
    """Name -> what brings its checkpoint's folder; random ones are made when they are first needed."""
    models: dict[str, Callable[[], Path]] = {}
    texts = [f"{title}\n" for title, _ in listings()]
    for shape in options.shape or []:
        models[shape] = partial(make_checkpoint, shape, options.work / shape, texts, options.device)
    for folder in options.checkpoint or []:
        models[folder.resolve().name] = folder.resolve
    return models


def _member(options: argparse.Namespace, checkpoint: Path) -> Row:
    """Options of a member on that checkpoint."""
    base: Row = {"model": str(checkpoint)}
    if options.runtime == "tensorrt_llm":
        base |= {"max_tokens": options.new_tokens} | (STANDIN_OPTIONS if options.standin else {})
    else:
        base |= {"max_new_tokens": options.new_tokens, "device": options.device}
    return base | options.option


def _copy(options: argparse.Namespace, checkpoint: Path, folder: Path) -> Path:
    """The checkpoint for one member: of its own where members on the same one would share it.

    Copies of one file system are links, so that they cost nothing; the stand-in writes beside its model.
    """
    if options.runtime != "tensorrt_llm":
        return checkpoint
    return Path(shutil.copytree(checkpoint, folder, copy_function=os.link))


def answers(options: argparse.Namespace, name: str, checkpoint: Path) -> Row:
    """Greedy answers against Transformers' own; guided answers against the schema."""
    work, subject = _log_folder(options, name), options.subject
    given = _member(options, _copy(options, checkpoint, _emptied(work / "checkpoint")))
    found: Row = {} if options.standin else _against_transformers(options, checkpoint, given, work)
    with Worker("bare", subject, given, work / "guided.log") as worker:
        said = worker.call("answers", count=4 * PROMPTS, together=True)["answers"]
        found["guided"] = {"answers": len(said), "valid": sum(map(_is_valid, said))}
        found |= worker.call("prompt_tokens")
        found["memory"] = worker.call("memory")
    return found | (_instructed(subject, given, work) if options.standin else {})


def _instructed(subject: Subject, given: Row, work: Path) -> Row:
    """Reuse of prompts that are instructions; the stand-in's model is asked in shorter ones otherwise."""
    short = given | {"guided": False, "max_tokens": 4, "max_seq_len": 2048}
    with Worker("bare", replace(subject, style="instruct"), short, work / "instructed.log") as worker:
        worker.call("answers", count=PROMPTS, together=False)
        return worker.call("prompt_tokens")


def _against_transformers(options: argparse.Namespace, checkpoint: Path, given: Row, work: Path) -> Row:
    subject = options.subject
    plain = {"model": str(checkpoint), "device": options.device, "max_new_tokens": options.new_tokens}
    with Worker("reference", subject, plain, work / "reference.log") as worker:
        expected = worker.call("answers", count=PROMPTS, together=False)
    found: Row = {"prompts": PROMPTS, "tokens": sum(expected["tokens"])}
    with Worker("bare", subject, given | {"guided": False}, work / "free.log") as worker:
        for way, together in (("alone", False), ("together", True)):
            said = worker.call("answers", count=PROMPTS, together=together)["answers"]
            same = [text == other for text, other in zip(said, expected["answers"], strict=True)]
            equal = map(_equal_tokens, said, expected["prefixes"])
            found[way] = {"same_answers": sum(same), "same_tokens": sum(equal)}
    return found


def _equal_tokens(text: str, prefixes: Sequence[str]) -> int:
    """How many tokens of the expected answer the text begins with."""
    return max(number for number, prefix in enumerate(prefixes) if text.startswith(prefix))


def _is_valid(text: str) -> bool:
    try:
        keys = list(json.loads(text))
    except ValueError:
        return False
    votes = parse_answer(Catalogue.load(CATALOGUE), ATTRIBUTES, text)
    return keys == list(ATTRIBUTES) and all(vote.status == Status.ANSWERED for vote in votes)


def batching(options: argparse.Namespace, name: str, checkpoint: Path) -> Row:
    """Both ways of batching of runtime ``hf``, taking turns."""
    if options.runtime != "hf":
        return {"skipped": "only runtime hf has two ways of batching"}
    ways, work, rounds = ("dynamic", "continuous"), _log_folder(options, name), []
    for number in range(options.rounds):
        for way in ways if number % 2 == 0 else ways[::-1]:
            member = _member(options, checkpoint) | {"batching": way}
            with Worker("bare", options.subject, member, work / f"{way}.log") as worker:
                worker.call("load", concurrency=max(options.concurrency), seconds=options.seconds / 4)
                for concurrency in options.concurrency:
                    _say(f"{way}, {concurrency} at once, round {number + 1} of {options.rounds}")
                    load = worker.call("load", concurrency=concurrency, seconds=options.seconds)
                    load |= worker.call("memory")
                    rounds.append({"batching": way, "concurrency": concurrency} | load)
    loads = [
        {"batching": way, "concurrency": concurrency}
        | _medians([one for one in rounds if (one["batching"], one["concurrency"]) == (way, concurrency)])
        for concurrency in options.concurrency
        for way in ways
    ]
    return {"loads": loads, "rounds": rounds}


def _medians(rounds: Sequence[Row]) -> Row:
    return {key: statistics.median(one[key] for one in rounds) for key in ("rate", "p50_ms", "p95_ms")}


def graph(options: argparse.Namespace, name: str, checkpoint: Path) -> Row:
    """One member in the graph against its bare runtime."""
    return _compared(options, name, checkpoint, ["alone"], "graph")


def ensemble(options: argparse.Namespace, name: str, checkpoint: Path) -> Row:
    """Several members on one device against as many bare runtimes on it."""
    count = _fitting(options, checkpoint)
    names = [f"member-{number}" for number in range(1, count + 1)]
    return _compared(options, name, checkpoint, names, "ensemble")


def _fitting(options: argparse.Namespace, checkpoint: Path) -> int:
    """How many members fit the GPU beside as many bare runtimes."""
    wanted = int(options.members)
    if options.device == "cpu":
        return wanted
    import torch

    weights = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
    free, _ = torch.cuda.mem_get_info(options.device)
    fitting = max(1, int(free // (2 * (weights + ROOM_BYTES))))
    if fitting < wanted:
        _say(f"{fitting} members instead of {wanted}: each is loaded twice, {free >> 30} GiB are free")
    return min(fitting, wanted)


def _compared(
    options: argparse.Namespace, name: str, checkpoint: Path, names: Sequence[str], part: str
) -> Row:
    if reason := gpu_graph.missing():
        return {"skipped": f"graph not measured: {reason}"}
    folder = _emptied(options.work / "run" / name / part)
    members = {one: _member(options, _copy(options, checkpoint, folder / one)) for one in names}
    return gpu_graph.compare(
        options.subject,
        members,
        folder=folder,
        concurrencies=options.concurrency,
        seconds=options.seconds,
        rounds=options.rounds,
        say=_say,
    )


_RUN: dict[str, Callable[[argparse.Namespace, str, Path], Row]] = {
    "answers": answers,
    "batching": batching,
    "graph": graph,
    "ensemble": ensemble,
}


def _resolve(device: str) -> str:
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device != "cpu" and not torch.cuda.is_available():
        sys.exit(
            f"--device {device}: PyTorch {torch.__version__} sees no GPU here; use --device cpu, or install"
            " the build with CUDA: QUORUM_TORCH=cuda make setup-hf"
        )
    return device


def _device_name(device: str) -> str:
    if device == "cpu":
        return "CPU"
    import torch

    return str(torch.cuda.get_device_name(device))


def _machine() -> Row:
    """Where this runs, without names."""
    versions = {}
    for name in ("torch", "transformers", "llguidance", "peft", "nvidia-pytriton", "tensorrt-llm"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    told = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    gpu = None
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        gpu = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "cpu": told[0].partition(":")[2].strip() if told else platform.machine(),
        "cores": len(told),
        "gpu": gpu,
        "python": platform.python_version(),
        "packages": versions,
    }


def _read(path: Path) -> Row:
    if not path.is_file():
        return {"schema_version": SCHEMA, "parts": {}}
    results: Row = json.loads(path.read_text("utf-8"))
    if results.get("schema_version") != SCHEMA:
        sys.exit(f"{path}: schema_version {results.get('schema_version')}, expected {SCHEMA}; name another")
    return results


def _write(path: Path, results: Row) -> None:
    """What failed or could not be measured is shown, but not kept: the next run tries it again."""
    parts = results["parts"].items()
    kept = {key: part for key, part in parts if not {"error", "skipped"} & part.keys()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results | {"parts": kept}, indent=1) + "\n", encoding="utf-8")


def _is_wanted(part: str, only: Sequence[str]) -> bool:
    return not only or any(part == name or part.startswith(f"{name}/") for name in only)


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _log_folder(options: argparse.Namespace, name: str) -> Path:
    folder: Path = options.work / "run" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _say(text: str) -> None:
    print(f"gpu-check: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

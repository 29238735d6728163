# SPDX-License-Identifier: Apache-2.0
"""Memory and answers per second of LoRA adapters on one base: shared and mixed in batches, or merged."""

from __future__ import annotations

import json
import multiprocessing
import resource
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ADAPTERS = 3
ATTRIBUTES = ("brand", "color", "size")
_TEXT = "Trailrunner {} mens running shoe by Acme, navy blue mesh upper with white laces, size 42"
_START_S, _ANSWER_S = 300.0, 300.0

Member = dict[str, Any]
"""Options of a member of runtime ``hf``; its ``asked`` is the adapter of its questions."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What processes of members held and answered.

    Attributes:
        callers: In a closed loop in each process: every one asks all members there and waits for all.
        answers: Of all members, in ``seconds``.
        cpu_s: CPU seconds of all processes meanwhile.
        rss_mib: Their resident memory together, at the end.
        texts: The answers to the first question, by member.
    """

    arrangement: str
    callers: int
    processes: int
    answers: int
    seconds: float
    cpu_s: float
    rss_mib: float
    texts: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The figures with rates: answers per second, and CPU seconds per answer."""
        return {
            "arrangement": self.arrangement,
            "callers": self.callers,
            "processes": self.processes,
            "answers": self.answers,
            "seconds": round(self.seconds, 2),
            "answers_per_s": round(self.answers / self.seconds, 3),
            "cpu_s_per_answer": round(self.cpu_s / max(self.answers, 1), 3),
            "rss_mib": round(self.rss_mib),
            "first_answers": list(self.texts),
        }


HEAD = f"{'arrangement':40}{'callers':>8}{'answers/s':>11}{'CPU s/answer':>14}{'MiB':>7}"


def line(row: Mapping[str, Any]) -> str:
    """A row of the printed table."""
    name, rate, cpu_s = row["arrangement"], row["answers_per_s"], row["cpu_s_per_answer"]
    return f"{name:40}{row['callers']:>8}{rate:>11.3f}{cpu_s:>14.3f}{row['rss_mib']:>7}"


def measure(
    checkpoint: Path, *, callers: Sequence[int], seconds: float, rank: int = 8
) -> Iterator[dict[str, Any]]:
    """Measure three members with random adapters of ``rank`` on a checkpoint, shared and apart.

    Yields a row of :meth:`Figures.to_json` per arrangement and number of callers.

    Raises:
        ValueError: A process does not answer.
    """
    with tempfile.TemporaryDirectory() as folder:
        adapters = _write_adapters(checkpoint, Path(folder), rank)
        for name, processes in _arrangements(checkpoint, adapters).items():
            for count in callers:
                yield _run(name, processes, count, seconds).to_json()


def _arrangements(checkpoint: Path, adapters: Sequence[str]) -> dict[str, list[list[Member]]]:
    base = {"model": str(checkpoint), "device": "cpu", "max_new_tokens": 32}
    own = [base | {"lora": adapter, "asked": adapter} for adapter in adapters]
    mixed = base | {"adapters": {ATTRIBUTES[0]: adapters[0]}, "asked": adapters[0]}
    return {
        "one adapter, merged": [[own[0]]],
        "one adapter, not merged": [[mixed]],
        "three adapters, one base": [own],
        "three adapters, merged, a process each": [[member] for member in own],
    }


def _write_adapters(checkpoint: Path, folder: Path, rank: int) -> list[str]:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    paths = []
    for number in range(ADAPTERS):
        model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
        torch.manual_seed(number)
        adapted = get_peft_model(
            model, LoraConfig(r=rank, lora_alpha=rank, target_modules=modules, init_lora_weights=False)
        )
        with torch.no_grad():
            for name, weights in adapted.named_parameters():
                if "lora_B" in name:
                    weights.mul_(0.1)  # small changes of the weights, as training makes
        paths.append(str(folder / f"adapter{number}"))
        adapted.save_pretrained(paths[-1])
    return paths


def _run(name: str, processes: Sequence[Sequence[Member]], callers: int, seconds: float) -> Figures:
    context = multiprocessing.get_context("spawn")
    started = context.Barrier(len(processes))
    pipes = []
    parts: list[Mapping[str, Any]] = []
    try:
        for members in processes:
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(theirs, started, list(members), callers, seconds), daemon=True
            )
            process.start()
            # Ours would keep the pipe open after the process has died.
            theirs.close()
            pipes.append((process, ours))
        for process, pipe in pipes:
            parts.append(_received(name, pipe, _START_S + seconds + _ANSWER_S))
            process.join()
    finally:
        for process, pipe in pipes:
            process.terminate()
            process.join()
            pipe.close()
    return Figures(
        name,
        callers,
        len(processes),
        sum(part["answers"] for part in parts),
        max(part["seconds"] for part in parts),
        sum(part["cpu_s"] for part in parts),
        sum(part["rss_mib"] for part in parts),
        tuple(text for part in parts for text in part["texts"]),
    )


def _received(name: str, pipe: Any, timeout_s: float) -> Mapping[str, Any]:
    """What a process sends at its end; raises ValueError if it dies before, or sends nothing in time."""
    try:
        if not pipe.poll(timeout_s):
            raise ValueError(f"{name}: a process does not answer within {timeout_s:.0f} s")
        received: Mapping[str, Any] = pipe.recv()
    except (EOFError, OSError) as error:
        raise ValueError(f"{name}: a process died before it answered; its error stands above") from error
    return received


def _serve(pipe: Any, started: Any, members: list[Member], callers: int, seconds: float) -> None:
    from quorum.runtimes import create
    from quorum.runtimes.base import RuntimeSettings
    from quorum.runtimes.options import HfOptions

    asked = [member.pop("asked") for member in members]
    options = [HfOptions(**member) for member in members]
    runtimes = []
    for number, own in enumerate(options):
        peers = tuple(other for other in options if other is not own)
        runtimes.append(create(RuntimeSettings(f"m{number}", Path("/"), own, peers)))
    pairs = list(zip(runtimes, asked, strict=True))
    texts = _ask(pairs, 0)
    started.wait(_START_S)
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    counts = [0] * callers

    def call(caller: int) -> None:
        while time.monotonic() - start < seconds:
            counts[caller] += len(_ask(pairs, caller + callers * counts[caller]))

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    pipe.send(
        {
            "answers": sum(counts),
            "seconds": taken,
            "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            "rss_mib": pages * resource.getpagesize() / 2**20,
            "texts": texts,
        }
    )
    for runtime in runtimes:
        runtime.close()


def _ask(pairs: Sequence[tuple[Any, str | None]], number: int) -> list[str]:
    """Ask all members about one product; their answers, once all are in."""
    from quorum.runtimes.base import Generated, Question, Reply
    from quorum.tasks.attribute import Attribute
    from quorum.tasks.catalogue import Catalogue
    from quorum.tasks.kinds import answer_schema
    from quorum.tasks.prompt import build_prompt

    catalogue = Catalogue.of([Attribute(name) for name in ATTRIBUTES])
    text = _TEXT.format(number)
    prompt = build_prompt(catalogue, "instruct", text, "shoes", ATTRIBUTES)
    schema = json.dumps(answer_schema(catalogue, ATTRIBUTES))
    texts = [""] * len(pairs)
    left = threading.Semaphore(0)

    def keep(position: int, reply: Reply) -> None:
        texts[position] = reply.text if isinstance(reply, Generated) else ""
        left.release()

    deadline = time.monotonic_ns() + int(_ANSWER_S * 1e9)
    for position, (runtime, adapter) in enumerate(pairs):
        question = Question(prompt, schema, text, "shoes", ATTRIBUTES, deadline, adapter=adapter)
        runtime.submit(question, lambda reply, position=position: keep(position, reply))
    for _ in pairs:
        left.acquire(timeout=_ANSWER_S)
    return texts

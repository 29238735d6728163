# SPDX-License-Identifier: Apache-2.0
"""One runtime in a process of its own, without Triton around it: the bare side of every comparison.

    python benchmarks/gpu_worker.py < commands.jsonl

The first line says what to load, every further one what to do; each is answered by one line of JSON.
"""
# ruff: noqa: INP001

from __future__ import annotations

import contextlib
import json
import os
import queue
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorum.runtimes import create
from quorum.runtimes.base import Question, Reply, Runtime, RuntimeSettings
from quorum.runtimes.options import read_options
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.prompt import Style, build_prompt
from quorum_contract import Status

ROOT = Path(__file__).resolve().parent.parent
CATALOGUE = ROOT / "model_repository" / "quorum_gate" / "catalogue.json"
LISTINGS = ROOT / "examples" / "demo" / "listings.jsonl"
ATTRIBUTES = ("brand", "color", "material", "gender")
PATIENCE_S = 300.0

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured.

    Attributes:
        runtime: Key of :data:`quorum.runtimes.options.RUNTIMES`.
        style: How it is asked, as ``prompt`` in ``deploy.yaml``.
        packages: A folder of packages that only this runtime is to see.
    """

    runtime: str
    style: Style = "instruct"
    packages: Path | None = None


def listings() -> list[tuple[str, str]]:
    """Titles and categories of the repository's synthetic listings."""
    rows = map(json.loads, LISTINGS.read_text("utf-8").splitlines())
    return list({row["title"]: (row["title"], row.get("category") or "") for row in rows}.values())


def question(catalogue: Catalogue, style: Style, text: str, category: str) -> Question:
    """What a member would ask about that listing."""
    schema = json.dumps(catalogue.json_schema(ATTRIBUTES), ensure_ascii=False)
    prompt = build_prompt(catalogue, style, text, category, ATTRIBUTES)
    deadline = time.monotonic_ns() + int(PATIENCE_S * 1e9)
    return Question(prompt, schema, text, category, ATTRIBUTES, deadline)


def summary(latencies: Sequence[float], seconds: float, failed: int) -> Row:
    """Rate per second and latencies in milliseconds of answers that took ``latencies`` seconds."""
    ranked = sorted(latencies)
    at = [
        ranked[min(len(ranked) - 1, int(share * len(ranked)))] * 1e3 if ranked else None
        for share in (0.5, 0.95)
    ]
    return {
        "answers": len(ranked),
        "failed": failed,
        "seconds": round(seconds, 3),
        "rate": len(ranked) / seconds,
        "p50_ms": at[0],
        "p95_ms": at[1],
    }


def gpu_memory_mib() -> float | None:
    """Memory in use on the first GPU, by whoever, in MiB; ``None`` where there is no GPU."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        return float(done.stdout.splitlines()[0])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


class Bare:
    """A runtime and the ways to ask it."""

    def __init__(self, spec: Row) -> None:
        self._catalogue = Catalogue.load(CATALOGUE)
        self._listings, self._style = listings(), spec["style"]
        options = read_options(spec["runtime"], spec["options"])
        self._runtime: Runtime = create(RuntimeSettings("bare", Path("/"), options))

    def answers(self, count: int, together: bool) -> Row:
        """What it says of the first ``count`` listings, one by one or all at once."""
        found: list[Reply | None] = [None] * count
        left = threading.Semaphore(0)

        def keep(number: int, reply: Reply) -> None:
            found[number] = reply
            left.release()

        for number in range(count):
            text, category = self._listings[number]
            asked = question(self._catalogue, self._style, text, category)
            self._runtime.submit(asked, lambda reply, number=number: keep(number, reply))  # type: ignore[misc]
            if not together:
                left.acquire(timeout=PATIENCE_S)
        for _ in range(count if together else 0):
            left.acquire(timeout=PATIENCE_S)
        return {"answers": [reply.name if isinstance(reply, Status) else reply for reply in found]}

    def load(self, concurrency: int, seconds: float) -> Row:
        """Keep that many questions in flight for that long; rate and latencies."""
        free: queue.SimpleQueue[None] = queue.SimpleQueue()
        latencies: list[float] = []
        failed, number = 0, 0

        def done(sent: float, reply: Reply) -> None:
            nonlocal failed
            if isinstance(reply, Status):
                failed += 1
            else:
                latencies.append(time.perf_counter() - sent)
            free.put(None)

        start = time.perf_counter()
        for _ in range(concurrency):
            free.put(None)
        while time.perf_counter() - start < seconds:
            free.get(timeout=PATIENCE_S)
            text, category = self._listings[number % len(self._listings)]
            number += 1
            sent = time.perf_counter()
            asked = question(self._catalogue, self._style, text, category)
            self._runtime.submit(asked, lambda reply, sent=sent: done(sent, reply))  # type: ignore[misc]
        for _ in range(concurrency):
            free.get(timeout=PATIENCE_S)
        return summary(latencies, time.perf_counter() - start, failed)

    def prompt_tokens(self) -> Row:
        """Tokens of all prompts so far, how many came from the KV cache; ``None`` where nobody tells."""
        told: tuple[int, int] | None = getattr(self._runtime, "prompt_tokens", None)
        return {"prompt_tokens": told and {"all": told[1], "reused": told[0]}}

    def memory(self) -> Row:
        """GPU memory in use by whoever, and this process's largest resident size, in MiB."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"gpu_mib": gpu_memory_mib(), "peak_rss_mib": round(peak, 1)}

    def close(self) -> Row:
        """Stop the runtime."""
        self._runtime.close()
        return {}


class Reference:
    """Transformers itself, one prompt at a time: what greedy answers must be, token by token."""

    def __init__(self, spec: Row) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

        self._torch, self._style, options = torch, spec["style"], spec["options"]
        torch.set_num_threads(int(options.get("threads") or 1))
        folder = options["model"]
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        device = options["device"]
        self._model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32 if device == "cpu" else "auto"
        ).to(device)
        ends = self._model.generation_config.eos_token_id
        self._ends = set(ends if isinstance(ends, list) else [ends])
        self._config = GenerationConfig(
            do_sample=False, max_new_tokens=options["max_new_tokens"], eos_token_id=ends, pad_token_id=0
        )

    def answers(self, count: int, together: bool) -> Row:
        """Texts and tokens for the first ``count`` listings; ``together`` is of no account."""
        catalogue, texts, tokens = Catalogue.load(CATALOGUE), [], []
        for text, category in listings()[:count]:
            message = {"role": "user", "content": question(catalogue, self._style, text, category).prompt}
            prompt = self._tokenizer.apply_chat_template(
                [message], tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
            given = self._tokenizer(prompt, add_special_tokens=False, return_tensors="pt").to(
                self._model.device
            )
            with self._torch.inference_mode():
                out = self._model.generate(**given, generation_config=self._config)[0].tolist()
            answer = out[given["input_ids"].shape[1] :]
            answer = answer[:-1] if answer and answer[-1] in self._ends else answer
            tokens.append(answer)
            texts.append(self._tokenizer.decode(answer, skip_special_tokens=True))
        return {
            "answers": texts,
            "tokens": [len(answer) for answer in tokens],
            "prefixes": [self._prefixes(answer) for answer in tokens],
        }

    def _prefixes(self, tokens: list[int]) -> list[str]:
        """The text after no token, after the first, and so on."""
        ends = range(len(tokens) + 1)
        return [self._tokenizer.decode(tokens[:end], skip_special_tokens=True) for end in ends]

    def close(self) -> Row:
        """Nothing to stop."""
        return {}


KINDS: dict[str, Callable[[Row], Any]] = {"bare": Bare, "reference": Reference}


class Worker:
    """The other end: starts this file as a process and talks to it."""

    def __init__(self, kind: str, subject: Subject, options: Row, log: Path) -> None:
        paths = [str(subject.packages or ""), os.environ.get("PYTHONPATH", "")]
        self._log = log.open("a", encoding="utf-8")
        self._log_path = log
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
        )
        self._send({"kind": kind, "runtime": subject.runtime, "style": subject.style, "options": options})
        self._started = False

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ready(self) -> Worker:
        """Wait until it has loaded."""
        if not self._started:
            self.result()
            self._started = True
        return self

    def begin(self, do: str, **how: Any) -> None:
        """Send a command and do not wait; :meth:`result` brings the answer."""
        self.ready()
        self._send({"do": do, **how})

    def result(self) -> Row:
        """The answer to the last command.

        Raises:
            RuntimeError: It failed; the message holds its last words.
        """
        assert self._process.stdout
        line = self._process.stdout.readline()
        answer: Row = json.loads(line) if line else {"error": "it ended without an answer"}
        if "error" in answer:
            tail = "\n".join(self._log_path.read_text("utf-8", "replace").splitlines()[-15:])
            raise RuntimeError(f"{answer['error']}; its last words:\n{tail}")
        return answer

    def call(self, do: str, **how: Any) -> Row:
        """Send a command and wait for its answer."""
        self.begin(do, **how)
        return self.result()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _send(self, command: Row) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()


def main() -> None:
    """Answer commands until they end."""
    # Libraries print what they like; answers have a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    target: Any = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if target is None:
                target, found = KINDS[command["kind"]](command), {}
            else:
                found = getattr(target, command.pop("do"))(**command)
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(found), file=answers, flush=True)
    if target is not None:
        target.close()


if __name__ == "__main__":
    main()

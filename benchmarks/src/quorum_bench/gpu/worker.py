# SPDX-License-Identifier: Apache-2.0
"""Run one runtime in a process of its own, without Triton around it: the bare side of every comparison.

    python -m quorum_bench.gpu.worker < commands.jsonl

The first line holds what to load, every further one a command; each is answered by one line of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quorum.evaluation.stats import quantile
from quorum.runtimes import create
from quorum.runtimes.base import Generated, Question, Reply, Runtime, RuntimeSettings
from quorum.runtimes.options import read_options
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import answer_schema
from quorum.tasks.prompt import Style, build_prompt
from quorum_bench.loops import closed
from quorum_bench.samples import OK, Samples
from quorum_bench.ticker import Ticker
from quorum_bench.usage import gpu_query
from quorum_bench.workload import Product, Workload
from quorum_contract import GATE, Status
from quorum_contract.errors import QuorumError

ROOT = Path(__file__).resolve().parents[4]
CATALOGUE = ROOT / "model_repository" / GATE / "catalogue.json"
LISTINGS = ROOT / "examples" / "demo" / "listings.jsonl"
ASKED = ("brand", "color", "material", "gender")
PATIENCE_S = 300.0

Row = dict[str, Any]


class WorkerError(QuorumError, RuntimeError):
    """A worker could not do a command; the message holds its last words."""

    code = "GPU_WORKER_FAILED"


@dataclass(frozen=True, slots=True)
class Subject:
    """Kind of members that are measured.

    Attributes:
        runtime: Key of :data:`quorum.runtimes.options.RUNTIMES`.
        style: Style of its prompts, as ``prompt`` in ``deploy.yaml``.
        packages: A folder of packages that only this runtime is to see.
    """

    runtime: str
    style: Style = "instruct"
    packages: Path | None = None


def listings() -> Workload:
    """Return the repository's synthetic listings, each text once."""
    rows = map(json.loads, LISTINGS.read_text("utf-8").splitlines())
    by_text = {row["title"]: row.get("category") or "" for row in rows}
    return Workload(tuple(Product(text, category, ASKED) for text, category in by_text.items()))


def question(catalogue: Catalogue, style: Style, product: Product, adapter: str | None = None) -> Question:
    """Return the question that a member is asked about a product, of its LLM with that adapter."""
    schema = json.dumps(answer_schema(catalogue, ASKED), ensure_ascii=False)
    prompt = build_prompt(catalogue, style, product.text, product.category, ASKED)
    deadline = time.monotonic_ns() + int(PATIENCE_S * 1e9)
    return Question(prompt, schema, product.text, product.category, ASKED, deadline, adapter=adapter)


def summary(samples: Samples, start_ns: int) -> Row:
    """Return rate per second and latencies in milliseconds of a load that began at ``start_ns``."""
    seconds = (int(samples.done_ns.max()) - start_ns) / 1e9
    latency, answers = samples.latency_ms, int(np.count_nonzero(samples.ok))
    return {
        "answers": answers,
        "failed": len(samples) - answers,
        "seconds": round(seconds, 3),
        "rate": answers / seconds,
        "p50_ms": quantile(latency, 0.5) if answers else None,
        "p95_ms": quantile(latency, 0.95) if answers else None,
    }


def gpu_memory_mib() -> float | None:
    """Return the memory in use on the first GPU, by any process, in MiB; ``None`` without a GPU."""
    rows = gpu_query("memory.used")
    with contextlib.suppress(ValueError, IndexError):
        return float(rows[0][0]) if rows else None
    return None


def _text_of(reply: Reply | None) -> str | None:
    """The text of an answer, or the name of the status."""
    if isinstance(reply, Generated):
        return reply.text
    return reply.name if isinstance(reply, Status) else None


class Bare:
    """A runtime and the ways to ask it."""

    def __init__(self, spec: Row) -> None:
        self._catalogue = Catalogue.load(CATALOGUE)
        self._products, self._style = listings().products, spec["style"]
        options = read_options(spec["runtime"], spec["options"])
        self._adapter = options.usual_adapter
        self._runtime: Runtime = create(RuntimeSettings("bare", Path("/"), options))

    def answers(self, count: int, together: bool) -> Row:
        """Answer the first ``count`` listings, one by one or all at once."""
        replies: list[Reply | None] = [None] * count
        left = threading.Semaphore(0)

        def keep(number: int, reply: Reply) -> None:
            replies[number] = reply
            left.release()

        for number in range(count):
            asked = question(self._catalogue, self._style, self._products[number], self._adapter)
            self._runtime.submit(asked, lambda reply, number=number: keep(number, reply))  # type: ignore[misc]
            if not together:
                left.acquire(timeout=PATIENCE_S)
        for _ in range(count if together else 0):
            left.acquire(timeout=PATIENCE_S)
        return {"answers": [_text_of(reply) for reply in replies]}

    def load(self, concurrency: int, seconds: float) -> Row:
        """Keep that many questions in flight for that long; return rate and latencies."""
        return asyncio.run(self._load(concurrency, seconds))

    async def _load(self, concurrency: int, seconds: float) -> Row:
        loop, clock = asyncio.get_running_loop(), Ticker()

        async def call(number: int) -> tuple[int, int]:
            future: asyncio.Future[tuple[int, int]] = loop.create_future()

            def deliver(reply: Reply) -> None:
                # Take the time when the reply arrives, not when the loop has woken for it.
                status = int(reply) if isinstance(reply, Status) else OK
                loop.call_soon_threadsafe(future.set_result, (status, clock.now_ns()))

            product = self._products[number % len(self._products)]
            asked = question(self._catalogue, self._style, product, self._adapter)
            self._runtime.submit(asked, deliver)
            return await asyncio.wait_for(future, PATIENCE_S)

        try:
            start_ns = clock.now_ns()
            stop_ns = start_ns + int(seconds * 1e9)
            rows = await closed(call, clock, range(concurrency), concurrency, stop_ns)
        finally:
            clock.close()
        return summary(Samples.of(rows), start_ns)

    def prompt_tokens(self) -> Row:
        """Count tokens of all prompts and those from the KV cache; ``None`` if the runtime does not."""
        counts: tuple[int, int] | None = getattr(self._runtime, "prompt_tokens", None)
        return {"prompt_tokens": counts and {"all": counts[1], "reused": counts[0]}}

    def memory(self) -> Row:
        """Return GPU memory in use by any process, and this process's largest resident size, in MiB."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"gpu_mib": gpu_memory_mib(), "peak_rss_mib": round(peak, 1)}

    def close(self) -> Row:
        """Stop the runtime."""
        self._runtime.close()
        return {}


class Reference:
    """Transformers itself, one prompt at a time: greedy answers to compare with, token by token."""

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
        """Return texts and tokens for the first ``count`` listings; ``together`` is ignored."""
        catalogue, texts, tokens = Catalogue.load(CATALOGUE), [], []
        for product in listings().products[:count]:
            message = {"role": "user", "content": question(catalogue, self._style, product).prompt}
            prompt = self._tokenizer.apply_chat_template(
                [message], tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
            inputs = self._tokenizer(prompt, add_special_tokens=False, return_tensors="pt").to(
                self._model.device
            )
            with self._torch.inference_mode():
                whole = self._model.generate(**inputs, generation_config=self._config)[0].tolist()
            answer = whole[inputs["input_ids"].shape[1] :]
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
        """Do nothing."""
        return {}


KINDS: dict[str, Callable[[Row], Any]] = {"bare": Bare, "reference": Reference}


class Worker:
    """Start this module as a process and send it commands.

    Args:
        kind: Key of :data:`KINDS`.
        subject: Kind of member.
        options: Of the runtime.
        log: File that its standard error is added to.
    """

    def __init__(self, kind: str, subject: Subject, options: Row, log: Path) -> None:
        paths = [str(subject.packages or ""), os.environ.get("PYTHONPATH", "")]
        self._log = log.open("a", encoding="utf-8")
        self._log_path = log
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
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
        """Wait until the process has loaded."""
        if not self._started:
            self.result()
            self._started = True
        return self

    def begin(self, do: str, **how: Any) -> None:
        """Send a command and do not wait; :meth:`result` returns its answer."""
        self.ready()
        self._send({"do": do, **how})

    def result(self) -> Row:
        """Return the answer to the last command.

        Raises:
            WorkerError: It failed.
        """
        assert self._process.stdout
        line = self._process.stdout.readline()
        answer: Row = json.loads(line) if line else {"error": "it ended without an answer"}
        if "error" in answer:
            tail = "\n".join(self._log_path.read_text("utf-8", "replace").splitlines()[-15:])
            raise WorkerError(f"{answer['error']}; its last words:\n{tail}")
        return answer

    def call(self, do: str, **how: Any) -> Row:
        """Send a command and wait for its answer."""
        self.begin(do, **how)
        return self.result()

    def close(self) -> None:
        """End the process."""
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
                target, answer = KINDS[command["kind"]](command), {}
            else:
                answer = getattr(target, command.pop("do"))(**command)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)
    if target is not None:
        target.close()


if __name__ == "__main__":
    main()

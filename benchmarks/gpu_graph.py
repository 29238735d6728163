# SPDX-License-Identifier: Apache-2.0
"""The serving graph on a real tritonserver beside the same runtimes without it, in one run, taking turns."""
# ruff: noqa: INP001

from __future__ import annotations

import asyncio
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpu_worker import (
    ATTRIBUTES,
    CATALOGUE,
    PATIENCE_S,
    Row,
    Subject,
    Worker,
    gpu_memory_mib,
    listings,
    summary,
)

START_S = 900.0
REDEPLOYS = 6
REDEPLOY_CALLERS = 8
Say = Callable[[str], None]


def missing() -> str | None:
    """Why no server can run here; ``None`` where one can."""
    try:
        from quorum.repository.render import render  # noqa: F401
        from quorum.server.install import ServerNotFound, find_install
        from quorum_client import AsyncClient  # noqa: F401
    except ImportError as error:
        return f"{error.name or error} is not installed"
    try:
        find_install()
    except (ServerNotFound, OSError) as error:
        return str(error)
    return None


def write_spec(folder: Path, subject: Subject, members: Mapping[str, Row]) -> Path:
    """A deployment of members with these options."""
    import yaml

    known = json.loads(CATALOGUE.read_text("utf-8"))["attributes"]
    keys = ("question", "values", "synonyms", "normaliser")
    spec = {
        "members": [
            {
                "name": name,
                "runtime": subject.runtime,
                "prompt": subject.style,
                "options": options,
                "timeout_s": PATIENCE_S,
            }
            for name, options in members.items()
        ],
        "gate": {"timeout_s": PATIENCE_S, "max_timeout_s": PATIENCE_S},
        "attributes": {name: {key: known[name][key] for key in keys} for name in ATTRIBUTES},
        "server": {"grpc_port": 0, "http_port": 0, "metrics_port": 0},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "deploy.yaml"
    path.write_text(yaml.safe_dump(spec, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def compare(
    subject: Subject,
    members: Mapping[str, Row],
    *,
    folder: Path,
    concurrencies: Sequence[int],
    seconds: float,
    rounds: int,
    say: Say,
) -> Row:
    """Load an ensemble and, in turn, the same number of bare runtimes, each loaded as much as a member is.

    Args:
        subject: What the members are.
        members: Name -> options.
        folder: For the deployment and all logs.
        concurrencies: Requests in flight.
        seconds: Length of one load.
        rounds: Loads of each side.
        say: Told what is going on.

    Returns:
        Per concurrency the rounds of both, the ensemble's throughput as a share of the slowest bare
        runtime's, its latency over theirs, and what redeploys under load did.
    """
    from quorum.deployment import load_deployment
    from quorum.repository.render import render

    spec, names = load_deployment(write_spec(folder, subject, members)), list(members)
    render(spec)
    before = gpu_memory_mib()
    workers = [Worker("bare", subject, members[name], folder / f"bare-{name}.log") for name in names]
    try:
        for worker in workers:
            worker.ready()
        bare_memory = gpu_memory_mib()
        with _serving(spec, subject, folder) as server:
            url = server.endpoint.grpc_url
            memory = {"before": before, "with_bare": bare_memory, "with_both": gpu_memory_mib()}
            agreed, said = _same_answers(workers[0], url)
            for concurrency in (max(concurrencies), 1):
                _bare(workers, concurrency, seconds / 2)
                _graph(url, concurrency, seconds / 2)
            loads = []
            for concurrency in concurrencies:
                pairs: list[Row] = []
                for number in range(rounds):
                    say(f"{concurrency} at once, round {number + 1} of {rounds}")
                    bare = _bare(workers, concurrency, seconds)
                    pairs.append({"bare": bare, "graph": _graph(url, concurrency, seconds)})
                loads.append(_summed(concurrency, pairs))
            say(f"{REDEPLOYS} redeploys under load")
            redeploy = _redeploy(spec, server, names)
        return {
            "members": len(names),
            "same_answers": agreed,
            "tokens_per_answer": _mean_tokens(Path(members[names[0]]["model"]), said),
            "loads": loads,
            "redeploy": redeploy,
            "gpu_mib": memory,
            "bare_memory": [worker.call("memory") for worker in workers],
            "bare_prompt_tokens": [worker.call("prompt_tokens")["prompt_tokens"] for worker in workers],
        }
    finally:
        for worker in workers:
            worker.close()


@contextmanager
def _serving(spec: Any, subject: Subject, folder: Path) -> Iterator[Any]:
    from quorum.server.supervise import wait_channels
    from quorum.server.triton import TritonServer

    install = None
    if subject.packages:
        from support import standin

        install = standin.install(folder / "python")
    server = TritonServer(spec, log_path=folder / "server.log", install=install)
    try:
        server.start()
        wait_channels(server, START_S)
        yield server
    finally:
        server.stop()


def _summed(concurrency: int, pairs: list[Row]) -> Row:
    """Medians over rounds; shares and differences are taken within a round."""
    shares = [pair["graph"]["rate"] / min(one["rate"] for one in pair["bare"]) for pair in pairs]
    extra = [pair["graph"]["p50_ms"] - max(one["p50_ms"] for one in pair["bare"]) for pair in pairs]
    return {
        "concurrency": concurrency,
        "bare_rate": statistics.median(min(one["rate"] for one in pair["bare"]) for pair in pairs),
        "graph_rate": statistics.median(pair["graph"]["rate"] for pair in pairs),
        "bare_p50_ms": statistics.median(max(one["p50_ms"] for one in pair["bare"]) for pair in pairs),
        "graph_p50_ms": statistics.median(pair["graph"]["p50_ms"] for pair in pairs),
        "graph_p95_ms": statistics.median(pair["graph"]["p95_ms"] for pair in pairs),
        "throughput_share": statistics.median(shares),
        "extra_p50_ms": statistics.median(extra),
        "failed": sum(pair["graph"]["failed"] for pair in pairs),
        "abstained": sum(pair["graph"]["abstained"] for pair in pairs),
        "rounds": pairs,
    }


def _bare(workers: Sequence[Worker], concurrency: int, seconds: float) -> list[Row]:
    for worker in workers:
        worker.begin("load", concurrency=concurrency, seconds=seconds)
    return [worker.result() for worker in workers]


def _graph(url: str, concurrency: int, seconds: float) -> Row:
    return asyncio.run(_keep_asking(url, concurrency, lambda elapsed: elapsed >= seconds))


async def _keep_asking(url: str, concurrency: int, enough: Callable[[float], bool]) -> Row:
    from quorum_client import AsyncClient

    latencies: list[float] = []
    abstained = failed = number = 0
    texts, start = listings(), time.perf_counter()
    async with AsyncClient(url, retries=False, timeout_s=PATIENCE_S) as client:

        async def caller() -> None:
            nonlocal abstained, failed, number
            while not enough(time.perf_counter() - start):
                text, category = texts[number % len(texts)]
                number += 1
                try:
                    found = await client.extract(text, ATTRIBUTES, category=category)
                except Exception:
                    failed += 1
                    continue
                latencies.append(found.latency_s)
                abstained += any(vote.value is None for answer in found.answers for vote in answer.votes)

        await asyncio.gather(*(caller() for _ in range(concurrency)))
    return summary(latencies, time.perf_counter() - start, failed) | {"abstained": abstained}


def _same_answers(worker: Worker, url: str, count: int = 8) -> tuple[Row, list[str]]:
    """Of how many listings the first member says what the bare runtime says; the latter's answers."""
    from quorum.tasks.catalogue import Catalogue
    from quorum.tasks.parse import parse_answer
    from quorum_client import AsyncClient

    catalogue, asked = Catalogue.load(CATALOGUE), listings()[:count]
    said = worker.call("answers", count=count, together=False)["answers"]
    bare = [[vote.value for vote in parse_answer(catalogue, ATTRIBUTES, text)] for text in said]

    async def ask() -> list[list[str | None]]:
        async with AsyncClient(url, retries=False, timeout_s=PATIENCE_S) as client:
            found = [await client.extract(text, ATTRIBUTES, category=kind) for text, kind in asked]
        return [[answer.votes[0].value for answer in one.answers] for one in found]

    graph = asyncio.run(ask())
    same = sum(one == other for one, other in zip(bare, graph, strict=True))
    return {"of": count, "same": same}, said


def _mean_tokens(checkpoint: Path, texts: Sequence[str]) -> float | None:
    """Tokens per text; ``None`` where the checkpoint has no ``tokenizer.json``."""
    from tokenizers import Tokenizer

    file = checkpoint / "tokenizer.json"
    if not file.is_file():
        return None
    tokenizer = Tokenizer.from_file(str(file))
    return statistics.mean(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)


def _redeploy(spec: Any, server: Any, names: Sequence[str]) -> Row:
    """Publish and promote again and again while callers ask; how many requests failed."""
    from quorum.decision.cell import Parameters
    from quorum.decision.weights import Weights
    from quorum.rollout.channels import Rollout
    from quorum.server.control import Control
    from quorum_client import Client

    url, stop, found = server.endpoint.grpc_url, threading.Event(), Row()

    def load() -> None:
        found.update(asyncio.run(_keep_asking(url, REDEPLOY_CALLERS, lambda _: stop.is_set())))

    thread, took, live, errors = threading.Thread(target=load), [], 0, []
    with Control(url, server.endpoint.admin_key) as control, Client(url, timeout_s=PATIENCE_S) as client:

        def version_of(channel: str) -> int:
            return client.extract("Is anybody there?", ATTRIBUTES[:1], channel=channel).weights_version

        rollout = Rollout(spec, control, version_of)
        version_of("quorum")
        thread.start()
        try:
            for number in range(REDEPLOYS):
                weights = tuple(1.0 + (number + place) % 5 for place in range(len(names)))
                fresh = Weights("majority", tuple(names), Parameters(weights), settings={"number": number})
                start = time.perf_counter()
                try:
                    version = rollout.publish(fresh).version
                    rollout.promote(version)
                except Exception as error:
                    errors.append(f"{type(error).__name__}: {error}")
                    continue
                took.append(time.perf_counter() - start)
                live += version_of("quorum") == version
        finally:
            stop.set()
            thread.join()
    return {
        "redeploys": REDEPLOYS,
        "live": live,
        "errors": errors,
        "requests": found["answers"] + found["failed"],
        "failed": found["failed"],
        "median_s": statistics.median(took) if took else None,
    }

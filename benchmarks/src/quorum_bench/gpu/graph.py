# SPDX-License-Identifier: Apache-2.0
"""Compare the serving graph on a real tritonserver with the same runtimes without it, in one run, in turn."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml
from tritonclient.grpc import service_pb2 as pb

from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights
from quorum.deployment import Deployment, load_deployment
from quorum.repository.render import render
from quorum.rollout.channels import Rollout
from quorum.server.control import Control
from quorum.server.supervise import wait_channels
from quorum.server.triton import TritonServer
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.parse import parse_answer
from quorum_bench.clients import Callers, calling
from quorum_bench.gpu import standin
from quorum_bench.gpu.worker import (
    ASKED,
    CATALOGUE,
    PATIENCE_S,
    Row,
    Subject,
    Worker,
    gpu_memory_mib,
    listings,
    summary,
)
from quorum_bench.load import Closed, run_load
from quorum_bench.samples import BAD_ANSWER, OK
from quorum_bench.targets.triton_caller import TritonCaller, triton_caller
from quorum_bench.workload import Workload
from quorum_client import AsyncClient, Client
from quorum_contract import MEMBER_STATUS, STABLE, Status

START_S = 900.0
REDEPLOY_CALLERS = 8
Say = Callable[[str], None]


class VotesCaller(TritonCaller):
    """A caller that reads every member's status and rejects an answer with an abstention."""

    async def open(self) -> None:
        """Connect; ask the first question, whose answer is not checked."""
        self._connect()
        await self.call(0)

    def check(self, number: int, answer: bytes) -> None:
        """Check that all members voted.

        Raises:
            ValueError: One abstained.
        """
        response = pb.ModelInferResponse.FromString(answer)
        names = [output.name for output in response.outputs]
        statuses = np.frombuffer(response.raw_output_contents[names.index(MEMBER_STATUS)], np.int32)
        if np.any(statuses != Status.ANSWERED):
            raise ValueError("a member abstained")


def write_spec(folder: Path, subject: Subject, members: Mapping[str, Row]) -> Path:
    """Write a deployment of members with these options."""
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
        "attributes": {name: {key: known[name][key] for key in keys} for name in ASKED},
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
    redeploys: int,
    say: Say,
) -> Row:
    """Load an ensemble and, in turn, the same number of bare runtimes, each loaded as much as a member is.

    Args:
        subject: Kind of the members.
        members: Name -> options.
        folder: For the deployment and all logs.
        concurrencies: Requests in flight.
        seconds: Length of one load.
        rounds: Loads of each side.
        redeploys: How often new weights go live under load.
        say: Called with each step.

    Returns:
        Per concurrency the rounds of both, the ensemble's throughput as a share of the slowest bare
        runtime's, its latency over theirs, and the outcome of redeploys under load.
    """
    spec, names = load_deployment(write_spec(folder, subject, members)), list(members)
    render(spec)
    before = gpu_memory_mib()
    workers = [Worker("bare", subject, members[name], folder / f"bare-{name}.log") for name in names]
    try:
        for worker in workers:
            worker.ready()
        bare_memory = gpu_memory_mib()
        with serving(spec, subject.packages, folder) as server:
            url = server.endpoint.grpc_url
            memory = {"before": before, "with_bare": bare_memory, "with_both": gpu_memory_mib()}
            agreement, texts = _same_answers(workers[0], url)
            for concurrency in (max(concurrencies), 1):
                _bare(workers, concurrency, seconds / 2)
                load_graph(url, concurrency, seconds / 2)
            loads = []
            for concurrency in concurrencies:
                pairs: list[Row] = []
                for number in range(rounds):
                    say(f"{concurrency} at once, round {number + 1} of {rounds}")
                    bare = _bare(workers, concurrency, seconds)
                    pairs.append({"bare": bare, "graph": load_graph(url, concurrency, seconds)})
                loads.append(_summed(concurrency, pairs))
            say(f"{redeploys} redeploys under load")
            redeployed = _redeploy(spec, server, names, redeploys)
        return {
            "members": len(names),
            "same_answers": agreement,
            "tokens_per_answer": _mean_tokens(Path(members[names[0]]["model"]), texts),
            "loads": loads,
            "redeploy": redeployed,
            "gpu_mib": memory,
            "bare_memory": [worker.call("memory") for worker in workers],
            "bare_prompt_tokens": [worker.call("prompt_tokens")["prompt_tokens"] for worker in workers],
        }
    finally:
        for worker in workers:
            worker.close()


@contextmanager
def serving(spec: Deployment, packages: Path | None, folder: Path) -> Iterator[TritonServer]:
    """Serve a rendered deployment until the block ends, its log in ``folder``; ``packages`` of a stand-in."""
    install = standin.install(folder / "python", packages) if packages else None
    server = TritonServer(spec, log_path=folder / "server.log", install=install)
    try:
        server.start()
        wait_channels(server, START_S)
        yield server
    finally:
        server.stop()


def _summed(concurrency: int, pairs: list[Row]) -> Row:
    """Medians over rounds; shares and differences are taken within a round."""
    shares = [pair["graph"]["rate"] / min(load["rate"] for load in pair["bare"]) for pair in pairs]
    extra = [pair["graph"]["p50_ms"] - max(load["p50_ms"] for load in pair["bare"]) for pair in pairs]
    return {
        "concurrency": concurrency,
        "bare_rate": statistics.median(min(load["rate"] for load in pair["bare"]) for pair in pairs),
        "graph_rate": statistics.median(pair["graph"]["rate"] for pair in pairs),
        "bare_p50_ms": statistics.median(max(load["p50_ms"] for load in pair["bare"]) for pair in pairs),
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


def load_graph(url: str, concurrency: int, seconds: float, workload: Workload | None = None) -> Row:
    """Load a server, with the listings by default; return rate, latencies and abstentions."""
    caller = triton_caller(url, STABLE, workload or listings(), timeout_s=PATIENCE_S)
    caller = replace(caller, factory=f"{__name__}:{VotesCaller.__name__}")
    load = run_load(caller, Closed(concurrency), seconds)
    abstained = load.samples.status == BAD_ANSWER
    # An answer with an abstention counts for latency too.
    samples = replace(load.samples, status=np.where(abstained, np.int32(OK), load.samples.status))
    return summary(samples, load.start_ns) | {"abstained": int(np.count_nonzero(abstained))}


def _same_answers(worker: Worker, url: str, count: int = 8) -> tuple[Row, list[str]]:
    """Count the listings that the first member answers as the bare runtime does; the latter's answers."""
    catalogue, products = Catalogue.load(CATALOGUE), listings().products[:count]
    texts = worker.call("answers", count=count, together=False)["answers"]
    bare = [[vote.value for vote in parse_answer(catalogue, ASKED, text)] for text in texts]

    async def ask() -> list[list[str | None]]:
        async with AsyncClient(url, retries=False, timeout_s=PATIENCE_S) as client:
            results = [await client.extract(p.text, ASKED, category=p.category) for p in products]
        return [[answer.votes[0].value for answer in result.answers] for result in results]

    graph = asyncio.run(ask())
    same = sum(left == right for left, right in zip(bare, graph, strict=True))
    return {"of": count, "same": same}, texts


def _mean_tokens(checkpoint: Path, texts: Sequence[str]) -> float | None:
    """Tokens per text; ``None`` where the checkpoint has no ``tokenizer.json``."""
    from tokenizers import Tokenizer

    file = checkpoint / "tokenizer.json"
    if not file.is_file():
        return None
    tokenizer = Tokenizer.from_file(str(file))
    return statistics.mean(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)


def _redeploy(spec: Deployment, server: TritonServer, names: Sequence[str], redeploys: int) -> Row:
    """Publish and promote again and again while callers ask; count the requests that failed."""
    url, took, live, errors = server.endpoint.grpc_url, [], 0, []
    callers = Callers(
        url, listings(), threads=0, coroutines=REDEPLOY_CALLERS, pause_s=0.0, timeout_s=PATIENCE_S
    )
    with Control(url, server.endpoint.admin_key) as control, Client(url, timeout_s=PATIENCE_S) as client:

        def version_of(channel: str) -> int:
            return client.extract("Is anybody there?", ASKED[:1], channel=channel).weights_version

        rollout = Rollout(spec, control, version_of)
        version_of(STABLE)
        with calling(callers) as load:
            for number in range(redeploys):
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
                live += version_of(STABLE) == version
    return {
        "redeploys": redeploys,
        "live": live,
        "errors": errors,
        "requests": len(load.answers) + len(load.failures),
        "failed": len(load.failures),
        "median_s": statistics.median(took) if took else None,
    }

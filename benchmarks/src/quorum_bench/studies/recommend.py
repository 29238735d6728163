# SPDX-License-Identifier: Apache-2.0
"""Measure how fast keyphrases are recommended by each engine, on servers that run side by side.

One tritonserver for each engine serves the same version. They are asked in turns, so that whatever else the
machine does falls on all of them, and the idle ones take no CPU. Callers are threads of this process, which
shares the machine. CPU times are those of the server's processes, and hardly depend on other work.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from quorum.deployment.retriever import RetrieverSpec
from quorum.evaluation.stats import quantile
from quorum.retrieval.encode import TextEncoder
from quorum.retrieval.manifest import read_retriever
from quorum.retrieval.recommend import Asked, Encode, Recommender
from quorum.retrieval.vectors import Vectors, cut
from quorum_bench.studies.recommend_version import Made, lines, make_keyphrases, write_version
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.usage import cpu_seconds, descendants
from quorum_bench.workload import Workload
from quorum_client import Client, QuorumError, RecommendItem

Row = dict[str, Any]
SETTINGS = {
    "openvino f32": RetrieverSpec(engine="openvino", precision="f32"),
    "openvino bf16": RetrieverSpec(engine="openvino", precision="bf16"),
    "onnxruntime int8": RetrieverSpec(engine="onnxruntime", precision="int8"),
}
K, RECALL_K, CALLERS, IN_FLIGHT = 10, 50, 16, 64
HEAD = (
    f"{'':17}{'one caller':^24}{'16 callers':^26}{'bulk':^20}\n"
    f"{'engine':17}{'p50 ms':>8}{'p95 ms':>8}{'CPU ms':>8}{'p50 ms':>9}{'p95 ms':>8}{'CPU ms':>8}"
    f"{'items/s':>10}{'CPU ms':>8}{'recall@50':>11}"
)
_PAUSE_S = 0.02
_ONCE, _TOGETHER, _BULK, _CHECKED, _PROBED = 20, 96, 256, 40, 64
"""Items of a turn, by kind; of the recall; and of the shares."""


@dataclass(slots=True)
class Served:
    """One engine's server, and what was measured of it."""

    name: str
    target: QuorumTarget
    client: Client
    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    items: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    rates: list[float] = field(default_factory=list)

    def turn(self, kind: str, ask: Callable[[], Sequence[float]], count: int) -> None:
        """Measure one turn of a kind."""
        processes = descendants(self.target.pids())
        before = cpu_seconds(processes)
        self.latencies[kind] += ask()
        self.cpu_s[kind] += cpu_seconds(processes) - before
        self.items[kind] += count

    def cpu_ms(self, kind: str) -> float:
        """CPU time of the server for one item, ms."""
        return self.cpu_s[kind] / self.items[kind] * 1e3


@contextmanager
def served(data: Path, encoder: Path, size: int, dims: int, names: Sequence[str]) -> Iterator[Study]:
    """Make the versions, start a server for each engine, and publish the first version on it.

    Args:
        data: Folder ``keyphrases`` of the public data.
        encoder: Folder of a student.
        size: Keyphrases.
        dims: Of the vectors.
        names: Of :data:`SETTINGS`.

    Raises:
        ManifestError: The encoder cannot be opened.
        OSError: Data are missing.
        QuorumError: A server does not start, or refuses the version.
    """
    made = make_keyphrases(data, encoder, size, dims)
    texts = [row["title"] for row in lines(data / "items.jsonl.gz")]
    order = np.random.default_rng(1).permutation(len(texts))
    workload = Workload.made(attributes=1, products=1)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quorum-recommend-")))
        first = write_version(made, encoder, folder / "1")
        second = write_version(made, encoder, folder / "2", less=1)
        found = []
        for name in names:
            members: dict[str, dict[str, Any]] = {"alpha": {}}
            target = stack.enter_context(QuorumTarget(workload, members, retriever=SETTINGS[name]))
            with target.rollout(retriever=True) as rollout:
                rollout.publish(first)
            client = stack.enter_context(Client(target.url, timeout_s=60))
            found.append(Served(name, target, client))
        yield Study(made, (first, second), [texts[at] for at in order], found)


@dataclass(frozen=True, slots=True)
class Study:
    """The servers, and what they are asked.

    Attributes:
        made: The keyphrases.
        folders: Of both versions; the second has a keyphrase less.
        texts: Titles of real items, in random order.
        servers: One for each engine, with the first version.
    """

    made: Made
    folders: tuple[Path, Path]
    texts: Sequence[str]
    servers: Sequence[Served]

    def rounds(self, count: int) -> None:
        """Ask all servers in turns, after a turn that does not count."""
        for server in self.servers:
            for text in self.texts[: _CHECKED // 2]:
                server.client.recommend(text, K)
        at = 0
        for _ in range(count):
            for kind, items in (("one", _ONCE), ("together", _TOGETHER), ("bulk", _BULK)):
                texts = [self.texts[(at + n) % len(self.texts)] for n in range(items)]
                at += items
                for server in self.servers:
                    server.turn(kind, _asker(server, kind, texts), items)

    def rows(self) -> Iterator[Row]:
        """Yield the figures of each engine."""
        nearest = self._nearest()
        for server in self.servers:
            row: Row = {"engine": server.name, "recall": self._recall(server, nearest)}
            for kind in ("one", "together"):
                values = np.array(server.latencies[kind]) * 1e3
                row |= {f"{kind}_p50_ms": quantile(values, 0.5), f"{kind}_p95_ms": quantile(values, 0.95)}
            row |= {f"{kind}_cpu_ms": server.cpu_ms(kind) for kind in server.cpu_s}
            row["bulk_per_s"] = float(np.median(server.rates))
            row["bulk_best_per_s"] = max(server.rates)
            yield row | self._shares(server.name)

    def redeploys(self, count: int) -> Iterator[Row]:
        """Yield the seconds of redeploys (publish and promote) on each server, asked by one caller."""
        for server in self.servers:
            done: list[tuple[float, float]] = []
            processes = descendants(server.target.pids())
            spent = cpu_seconds(processes) + time.process_time()
            with _asking(server, self.texts) as (answers, failures), server.target.rollout(True) as rollout:
                for number in range(count):
                    began = time.monotonic()
                    # Its number is new only the first time: the second folder's, then both are there.
                    version = rollout.publish(self.folders[(number + 1) % 2]).version
                    published = time.monotonic()
                    rollout.promote(version)
                    done.append((published - began, time.monotonic() - published))
            spent = cpu_seconds(descendants(server.target.pids())) + time.process_time() - spent
            yield {
                "engine": server.name,
                "cpu_s": spent / count,
                "publish_s": done[0][0],
                "promote_s": float(np.median([promote for _, promote in done])),
                "redeploy_s": sum(done[0]),
                "requests": len(answers),
                "versions": sorted(set(answers)),
                "failures": failures,
            }

    def _nearest(self) -> list[set[str]]:
        """The nearest keyphrases of the first items, by f32 vectors and an exact search in f64."""
        vectors = cut(TextEncoder(self.folders[0]).items(self.texts[:_CHECKED]), self.made.vectors.shape[1])
        scores = vectors.astype(np.float64) @ self.made.vectors.T.astype(np.float64)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :RECALL_K]
        return [{self.made.texts[row] for row in rows.tolist()} for rows in best]

    def _recall(self, server: Served, nearest: Sequence[set[str]]) -> float:
        shares = []
        for text, wanted in zip(self.texts, nearest, strict=False):
            found = server.client.recommend(text, RECALL_K)
            shares.append(len(wanted & {keyphrase.text for keyphrase in found.keyphrases}) / RECALL_K)
        return float(np.mean(shares))

    def _shares(self, name: str) -> Row:
        """CPU time of encoder and search alone, in this process, one item at a time and 32."""
        settings, folder = SETTINGS[name], self.folders[0]
        encoder = TextEncoder(folder, settings.engine, settings.precision, settings.threads)
        searching = Recommender.open(folder, read_retriever(folder))
        row: Row = {}
        for batch in (1, 32):
            parts = [self.texts[at : at + batch] for at in range(0, _PROBED, batch)]
            encode = search = 0.0
            for part in parts:
                began = time.process_time()
                vectors = encoder.items(part)
                encoded = time.process_time()
                searching.recommend([Asked(text, "", K, -1.0) for text in part], _given(vectors))
                encode += encoded - began
                search += time.process_time() - encoded
            row |= {
                f"encode_{batch}_ms": encode / _PROBED * 1e3,
                f"search_{batch}_ms": search / _PROBED * 1e3,
            }
        return row


def judge_row(url: str, study: Study, items: int) -> Row:
    """Time the judges of a running deployment on what was recommended: an item with its keyphrases at once.

    Args:
        url: ``host:port`` of a deployment with a ``default`` question.
        study: With the server that recommends.
        items: How many are asked for, one after another.
    """
    seconds = []
    recommends = study.servers[0].client
    with Client(url, timeout_s=300) as client:
        for text in study.texts[: items + 1]:
            keyphrases = [keyphrase.text for keyphrase in recommends.recommend(text, K).keyphrases]
            began = time.monotonic()
            client.extract(text, keyphrases)
            seconds.append(time.monotonic() - began)
    # The first question warms its caches.
    return {"items": items, "keyphrases": K, "p50_s": quantile(np.array(seconds[1:]), 0.5)}


def line(row: Row) -> str:
    """One line of the table of :meth:`Study.rows`."""
    return (
        f"{row['engine']:17}{row['one_p50_ms']:8.1f}{row['one_p95_ms']:8.1f}{row['one_cpu_ms']:8.2f}"
        f"{row['together_p50_ms']:9.1f}{row['together_p95_ms']:8.1f}{row['together_cpu_ms']:8.2f}"
        f"{row['bulk_per_s']:10.0f}{row['bulk_cpu_ms']:8.2f}{row['recall']:11.4f}"
    )


def shares_line(row: Row) -> str:
    """Where the server's CPU time of an item goes."""

    def parts(batch: int, whole: float) -> str:
        encode, search = row[f"encode_{batch}_ms"], row[f"search_{batch}_ms"]
        return f"{encode:6.2f} + {search:4.2f} + {max(0.0, whole - encode - search):4.2f}"

    return (
        f"{row['engine']:17}  one caller: {parts(1, row['one_cpu_ms'])}"
        f"   bulk: {parts(32, row['bulk_cpu_ms'])}"
    )


def redeploy_line(row: Row) -> str:
    """One line on the redeploys of an engine."""
    return (
        f"{row['engine']:17}  publish {row['publish_s']:5.2f} s, promote {row['promote_s']:5.2f} s, together"
        f" {row['redeploy_s']:5.2f} s (CPU {row['cpu_s']:5.2f} s);"
        f" {row['requests']} requests meanwhile, {len(row['failures'])} failed"
    )


def _asker(server: Served, kind: str, texts: Sequence[str]) -> Callable[[], list[float]]:
    client = server.client

    def one(text: str) -> float:
        began = time.monotonic()
        client.recommend(text, K)
        return time.monotonic() - began

    def together() -> list[float]:
        with ThreadPoolExecutor(CALLERS) as callers:
            return list(callers.map(one, texts))

    def bulk() -> list[float]:
        began = time.monotonic()
        found = sum(1 for _ in client.recommend_many(map(_item, texts), concurrency=IN_FLIGHT))
        server.rates.append(found / (time.monotonic() - began))
        return []

    return {"one": lambda: list(map(one, texts)), "together": together, "bulk": bulk}[kind]


def _item(text: str) -> RecommendItem:
    return RecommendItem(text, k=K)


@contextmanager
def _asking(server: Served, texts: Sequence[str]) -> Iterator[tuple[list[int], list[str]]]:
    """Ask one question after another while the block runs; versions that answered, and failures."""
    answers: list[int] = []
    failures: list[str] = []
    ended = threading.Event()

    def ask() -> None:
        for text in texts:
            if ended.wait(_PAUSE_S):
                return
            try:
                answers.append(server.client.recommend(text, K).version)
            except QuorumError as error:
                failures.append(f"{type(error).__name__}: {error}")

    caller = threading.Thread(target=ask)
    caller.start()
    try:
        yield answers, failures
    finally:
        ended.set()
        caller.join()


def _given(vectors: Vectors) -> Encode:
    return lambda _texts: vectors

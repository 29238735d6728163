# SPDX-License-Identifier: Apache-2.0
"""Close the loop once, on a real server: ``make demo-keyphrases``.

``python examples/keyphrases/run.py`` writes three raters' recorded votes (people, not LLMs), starts Triton
with ``deploy.yaml``, learns weights from one third of the queries, judges all pairs, publishes the untrained
base as the first version of the retriever, teaches a student what was judged, and publishes and promotes it
as the second one while requests keep coming. A third of the queries is held out: no student learns it. Needs
the environment of ``make setup-tune`` and the data (``--data``). All is in a temporary folder that is removed
at the end, but for the report and the base model.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), *(str(HERE.parent / name) for name in ("demo", "tasks"))]
# Before PyTorch or NumPy are imported, here or in the server: one thread for each process.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import bases  # noqa: E402
import raters  # noqa: E402
from demo_traffic import Sample, Traffic  # noqa: E402
from rich.text import Text  # noqa: E402

import quorum  # noqa: E402
from quorum.cli.console import note, out  # noqa: E402
from quorum.cli.signals import terminated_as_interrupted  # noqa: E402
from quorum.deployment.retriever import RetrieverSpec  # noqa: E402
from quorum.deployment.schema import Deployment  # noqa: E402
from quorum.distill.split import same_key  # noqa: E402
from quorum.distill.zero_shot import write_zero_shot  # noqa: E402
from quorum.learning.by_kind import learn  # noqa: E402
from quorum.operations.flywheel import PUBLISHING  # noqa: E402
from quorum.repository.render import render  # noqa: E402
from quorum.server.runfile import Running, leave_note, remove_note, start_of  # noqa: E402
from quorum.server.supervise import wait_channels  # noqa: E402
from quorum.server.triton import TritonServer  # noqa: E402
from quorum.votes import read_votes  # noqa: E402
from quorum_client import AsyncClient, Client, Recommendation, RecommendItem  # noqa: E402
from quorum_contract import RECOMMEND  # noqa: E402

HELD_OUT_FOLD = 2
"""Its queries are neither learned by a student nor known to the weights."""
FEWEST = 300
"""Requests that are sent while versions change, at least."""
SHOWN, K = 10, 5
_START_TIMEOUT_S, _LOAD_S, _PAUSE_S = 180.0, 60.0, 1.0


class Recommending(Traffic):
    """The demo's stream of requests, for keyphrases of one item after another."""

    def __init__(self, url: str, texts: Sequence[str]) -> None:
        super().__init__(url, RECOMMEND, [], [], 2)
        self._texts = texts

    async def _loop(self, client: AsyncClient) -> None:
        while not self._stop.is_set():
            text, at = self._texts[len(self.samples) % len(self._texts)], self.now()
            try:
                version, error = (await client.recommend(text, K, channel=RECOMMEND)).version, None
            except quorum.QuorumError as failure:
                version, error = None, str(failure)
            self.samples.append(Sample(at, (self.now() - at) * 1e3, version, error))


@dataclass(slots=True)
class Loop:
    """What happened.

    Attributes:
        data: Rows of each file.
        turn: What was judged, taught, published and measured.
        items: Texts that keyphrases were recommended for.
        recommended: Version -> the answer for each of these.
        samples: Requests while versions changed.
        marks: When something was done to the server, and what.
        seconds: Step -> wall time.
        left: Files that the server left behind.
    """

    data: dict[str, int] = field(default_factory=dict)
    turn: quorum.FlywheelReport | None = None
    items: list[str] = field(default_factory=list)
    recommended: dict[int, list[Recommendation]] = field(default_factory=dict)
    samples: Sequence[Sample] = ()
    marks: list[tuple[float, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    @property
    def failed(self) -> int:
        """Requests without an answer."""
        return sum(sample.version is None for sample in self.samples)

    def say(self, text: str) -> None:
        """Print a line with the time since the start."""
        note(Text(f"{time.monotonic() - self.start:6.1f} s  {text}"))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure a step."""
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start


def split(pairs: Path) -> tuple[Path, Path]:
    """Write the pairs to learn and those of the held-out queries into files of their own.

    Other queries whose form in an index is that of a held-out one, such as a plural, are left out.
    """
    parts: dict[bool, list[str]] = {True: [], False: []}
    rows = [(json.loads(line), line + "\n") for line in pairs.read_text("utf-8").splitlines()]
    held = {same_key(row["keyphrase"]) for row, _ in rows if row["fold"] == HELD_OUT_FOLD}
    for row, line in rows:
        held_out = row["fold"] == HELD_OUT_FOLD
        if held_out or same_key(row["keyphrase"]) not in held:
            parts[held_out].append(line)
    paths = pairs.with_name("heldout-pairs.jsonl"), pairs.with_name("day.jsonl")
    for path, held_out in zip(paths, (True, False), strict=True):
        path.write_text("".join(parts[held_out]), "utf-8")
    return paths


def run(report: Path, data: Path, base_models: Path, wheels: Path | None, two_steps: bool) -> int:
    """Run all steps; the exit status: 1 if a request failed or the server left something behind."""
    loop = Loop()
    with tempfile.TemporaryDirectory(prefix="quorum-keyphrases-") as scratch:
        folder = Path(scratch)
        with loop.step("data"):
            loop.data = raters.write_all(data, folder / "data")
            loop.say(f"three raters' votes on {loop.data['pairs.jsonl']} pairs; they are people, not LLMs")
            bases.base(base_models / "minilm", bases.MINILM_WHEEL, bases.minilm, wheels)
        shutil.copy(HERE / "deploy.yaml", folder)
        found = quorum.load_deployment(folder / "deploy.yaml")
        server = found.server.model_copy(update={"grpc_port": 0, "http": False, "metrics_port": 0})
        settings = RetrieverSpec(heldout="heldout.parquet")
        deployment = found.model_copy(update={"server": server, "retriever": settings})
        with serving(loop, deployment) as url:
            close_the_loop(loop, deployment, url, base_models / "minilm", two_steps)
    from keyphrase_report import recommendations, summary, write_report

    write_report(report, loop)
    out.print(recommendations(loop))
    out.print(summary(loop))
    for name, saved in loop.turn.savings.items() if loop.turn else ():
        note(f"the {name}, asked first, {saved}")
    note(f"{loop.failed} of {len(loop.samples)} requests failed while versions changed")
    note(f"report: {report.resolve()}")
    if loop.left:
        note(f"left behind: {', '.join(loop.left)}")
    return 1 if loop.failed or loop.left else 0


@contextmanager
def serving(loop: Loop, deployment: Deployment) -> Iterator[str]:
    """Serve the deployment where other commands find it; its address."""
    render(deployment)
    server = TritonServer(deployment, log_path=deployment.root / "server.log")
    try:
        with loop.step("start"):
            server.start()
            wait_channels(server, _START_TIMEOUT_S)
            assert server.pid
            leave_note(
                deployment, Running(server.pid, start_of(server.pid), server.repository, server.endpoint)
            )
        loop.say(f"Triton is up at {server.endpoint.grpc_url}")
        yield server.endpoint.grpc_url
    finally:
        server.stop()
        remove_note(deployment)
        loop.left += server.leftovers()


def close_the_loop(loop: Loop, deployment: Deployment, url: str, base: Path, two_steps: bool) -> None:
    """Weights, judging, two versions of the retriever, and figures."""
    folder, data = deployment.root, deployment.root / "data"
    catalogue = deployment.catalogue()
    weights = learn(
        read_votes(data / "learn.jsonl"),
        kinds=catalogue.answer_kinds(),
        catalogue=catalogue.hashes,
        value_counts=catalogue.value_counts(),
    )
    quorum.promote(deployment, quorum.publish(deployment, weights).version)
    loop.say(f"weights learned from {loop.data['learn.jsonl']} final grades and promoted: {weights.method}")
    held_out, day = split(data / "pairs.jsonl")
    with loop.step("judge held-out"):
        report = quorum.judge(deployment, held_out, quorum.JudgeOptions(out=folder / "heldout.parquet"))
    if report.left:
        raise quorum.QuorumError(f"{report.left} pairs have no answer: {report.last_error}")
    loop.say(f"{report.judged} pairs of held-out queries judged")
    with loop.step("first version"):
        first = folder / "zero-shot"
        first.mkdir()
        write_zero_shot(base, first, (384, 128, 64), 64)
        quorum.index_keyphrases(data / "keyphrases.jsonl", first, folder / "version-1")
        quorum.publish(deployment, folder / "version-1")
    loop.say("the untrained base and its index are version 1 of the retriever")
    loop.items = texts_of(held_out)[:SHOWN]
    loop.recommended[1] = recommend(url, loop.items)
    traffic = Recommending(url, texts_of(held_out))
    options = quorum.FlywheelOptions(against=first, distill=quorum.DistillOptions(direct=not two_steps))
    with ExitStack() as requests:

        def note_of_turn(line: str) -> None:
            loop.say(line)
            if line == PUBLISHING:
                requests.enter_context(traffic)
                traffic.let_run(_PAUSE_S)
                loop.marks.append((traffic.now(), "publish"))

        turn = quorum.flywheel(
            deployment, day, base, data / "keyphrases.jsonl", folder / "turn", options, note=note_of_turn
        )
        if turn.version is None:
            raise quorum.QuorumError(turn.refused)
        loop.say(f"published version {turn.version}; the gate: {turn.gate}")
        loop.turn = turn
        with loop.step("redeploy"):
            redeploy(loop, deployment, turn.version, traffic)
    loop.samples = traffic.samples
    loop.say(
        f"redeployed under load: {len(traffic.samples)} requests, {traffic.failed} failed, answered by"
        f" versions {', '.join(map(str, traffic.versions))}"
    )
    loop.recommended[turn.version] = recommend(url, loop.items)


def texts_of(pairs: Path) -> list[str]:
    """Different texts of items, in the order of the file."""
    rows = map(json.loads, pairs.read_text("utf-8").splitlines())
    return list(dict.fromkeys(row["text"] for row in rows))


def recommend(url: str, texts: Sequence[str]) -> list[Recommendation]:
    """What the stable channel recommends."""
    with Client(url) as client:
        return list(client.recommend_many([RecommendItem(text, k=K) for text in texts], errors="raise"))


def redeploy(loop: Loop, deployment: Deployment, version: int, traffic: Traffic) -> None:
    """Promote the student, back and forth, while requests keep coming."""
    for label in ("promote", "rollback", "promote"):
        begin = traffic.now()
        if label == "promote":
            quorum.promote(deployment, version, retriever=True)
        else:
            quorum.rollback(deployment, retriever=True)
        loop.marks.append((begin, label))
        traffic.let_run(_PAUSE_S)
    end = time.monotonic() + _LOAD_S
    while len(traffic.samples) < FEWEST and time.monotonic() < end:
        traffic.let_run(_PAUSE_S / 5)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Judge, distil, index, publish, recommend: the loop, once.")
    parser.add_argument(
        "--report", type=Path, default=Path(".quorum/keyphrases/report.html"), help="HTML report to write"
    )
    parser.add_argument("--data", type=Path, help="folder of the data; default: $QUORUM_DATA/keyphrases")
    parser.add_argument(
        "--bases", type=Path, default=ROOT / ".cache" / "bases", help="folder of the base model; kept"
    )
    parser.add_argument("--wheels", type=Path, help="folder that holds the wheel of the base model already")
    parser.add_argument(
        "--two-steps", action="store_true", help="teach by a cross-encoder: minutes more of CPU"
    )
    args = parser.parse_args()
    data = args.data or Path(os.environ.get("QUORUM_DATA", "data")) / "keyphrases"
    if not (data / "judgements.jsonl.gz").is_file():
        note(
            f"no judgements.jsonl.gz in {data}: the demo needs the public data of querqy/chorus as described"
            " in examples/keyphrases/README.md; name its folder with --data, or that above it in QUORUM_DATA"
        )
        return 1
    try:
        with terminated_as_interrupted():
            return run(args.report, data, args.bases, args.wheels, args.two_steps)
    except quorum.QuorumError as error:
        note(Text(str(error)))
        return 1
    except KeyboardInterrupt:
        note("interrupted; nothing is left behind but the base model")
        return 130


if __name__ == "__main__":
    sys.exit(main())

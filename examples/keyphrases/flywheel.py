# SPDX-License-Identifier: Apache-2.0
"""One turn of the loop for a new day's pairs: judge, distil, index, measure, publish.

``python examples/keyphrases/flywheel.py DAY --heldout HELDOUT --base BASE --keyphrases KEYPHRASES --out OUT``
asks the deployment that ``quorum up`` serves about the pairs of DAY, teaches a student by these and all
earlier ones (``--before``), indexes the keyphrases, measures, and publishes the version, which the gate of
``retriever.heldout`` may refuse. OUT keeps ``judged.parquet``, which is ``--before`` of the next turn,
``student`` and ``version``. No channel changes: ``quorum canary N --retriever`` and ``promote`` do that.
Needs the environment of ``make setup-tune``. A turn that was killed goes on by the same command.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from savings import Savings, chances, cosines, measure

import quorum
from quorum.deployment.schema import Deployment
from quorum.retrieval.judged import JudgedPair, read_judged, read_provenance, write_judged

Note = Callable[[str], None]
CROSS_ENCODER = "cross-encoder"
DIMS = (384, 64)
"""Of the figures: all, and those of an index."""


@dataclass(slots=True)
class Turn:
    """What a turn made, and what it took.

    Attributes:
        out: Its folder.
        judged: Pairs of the day with a label.
        learned: Pairs that the student learned from or chose by, those of earlier days among them.
        requests: Asked of the ensemble for these.
        measured: Figures on held-out pairs.
        savings: "student" or "cross-encoder" -> what it could answer in place of the ensemble.
        seconds: Step -> wall time.
    """

    out: Path
    judged: int = 0
    learned: int = 0
    requests: int = 0
    measured: Any = None
    savings: dict[str, Savings] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def version(self) -> Path:
        """The folder for ``quorum publish``."""
        return self.out / "version"

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add up the time of a step."""
        start = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start


@dataclass(frozen=True, slots=True)
class Sources:
    """Files of a turn.

    Attributes:
        day: Pairs to judge.
        held_out: Judged pairs of keyphrases that no student learns.
        base: Folder of the base encoder.
        keyphrases: To index.
        before: Judged pairs of earlier days; None: the first.
        against: Student to compare with; None: the base as it is; BM25 in any case.
    """

    day: Path
    held_out: Path
    base: Path
    keyphrases: Path
    before: Path | None = None
    against: Path | None = None


def turn(
    deployment: Deployment,
    sources: Sources,
    out: Path,
    options: Any,
    note: Note,
) -> Turn:
    """Judge, distil, index and measure; publishing is the caller's."""
    made = Turn(out)
    out.mkdir(parents=True, exist_ok=True)
    with made.step("judge"):
        made.judged, made.requests = judge_file(deployment, sources.day, out / "day.parquet", note)
        made.learned = pool(sources.before, out / "day.parquet", out / "judged.parquet")
    with made.step("distil"):
        if not (out / "student").exists():
            quorum.distill_student(
                out / "judged.parquet", sources.base, out / "student", options, held_out=sources.held_out,
                note=note,
            )  # fmt: skip
    with made.step("index"):
        if not made.version.exists():
            quorum.index_keyphrases(sources.keyphrases, out / "student", made.version, note=note)
    with made.step("measure"):
        chosen = quorum.RetrievalOptions(
            against=sources.against,
            base=None if sources.against else sources.base,
            keyphrases=sources.keyphrases,
            dims=DIMS,
        )
        made.measured = quorum.evaluate_retrieval(sources.held_out, out / "student", chosen)
        made.savings = savings_of(out / "student", sources.held_out)
    return made


def judge_file(deployment: Deployment, pairs: Path, out: Path, note: Note) -> tuple[int, int]:
    """Judge the pairs of a file, unless that is done; pairs with a label, and requests."""
    if out.exists():
        return len(read_judged(out)), 0
    report = quorum.judge(deployment, pairs, quorum.JudgeOptions(out=out), note=note)
    if report.left:
        raise quorum.QuorumError(f"{report.left} pairs have no answer ({report.last_error}); run it again")
    return report.judged, report.estimate.requests if report.estimate else 0


def pool(before: Path | None, day: Path, out: Path) -> int:
    """Write the judged pairs of both, the day's where a pair stands in both; how many."""
    rows: dict[tuple[str, str], Any] = {}
    for path in filter(None, (before, day)):
        rows |= {(row["item"], row["keyphrase"]): row for row in pq.read_table(path).to_pylist()}
    return write_judged(out, (JudgedPair(**row) for row in rows.values()), read_provenance(day))


def savings_of(student: Path, held_out: Path) -> dict[str, Savings]:
    """What the student and its cross-encoder, if there is one, would save on held-out pairs."""
    judged = read_judged(held_out)
    found = {"student": measure(cosines(student, judged), judged)}
    if (student / CROSS_ENCODER).is_dir():
        found[CROSS_ENCODER] = measure(chances(student / CROSS_ENCODER, judged), judged)
    return found


def lines(made: Turn) -> Iterator[str]:
    """What changed and what it cost, in words."""
    yield f"{made.judged} pairs judged by {made.requests} requests; {made.learned} pairs to learn from"
    for name, figures in made.measured.differences.items():
        shown = (f"{key} {f.value:+.3f} [{f.low:+.3f}, {f.high:+.3f}]" for key, f in figures.items())
        yield f"{name}: {', '.join(shown)}"
    for name, saved in made.savings.items():
        yield f"the {name} {saved}"
    yield ", ".join(f"{step} {seconds:.0f} s" for step, seconds in made.seconds.items())


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("day", type=Path, help="pairs to judge, as for `quorum judge`")
    parser.add_argument("--heldout", type=Path, required=True, help="judged pairs that no student learns")
    parser.add_argument("--base", type=Path, required=True, help="folder of the base encoder")
    parser.add_argument("--keyphrases", type=Path, required=True, help="keyphrases to index")
    parser.add_argument("--out", type=Path, required=True, help="folder of this turn")
    parser.add_argument("--before", type=Path, help="judged pairs of earlier turns")
    parser.add_argument("--against", type=Path, help="student of an earlier turn, to compare with")
    parser.add_argument("--direct", action="store_true", help="leave the cross-encoder out: faster")
    parser.add_argument("--deploy", type=Path, default=Path("deploy.yaml"))
    args = parser.parse_args()
    sources = Sources(args.day, args.heldout, args.base, args.keyphrases, args.before, args.against)

    def note(line: str) -> None:
        print(line, file=sys.stderr)

    try:
        deployment = quorum.load_deployment(args.deploy)
        made = turn(deployment, sources, args.out, quorum.DistillOptions(direct=args.direct), note)
        for line in lines(made):
            print(line)
        with made.step("publish"):
            change = quorum.publish(deployment, made.version, note=note)
    except quorum.QuorumError as error:
        print(error, file=sys.stderr)
        return 1
    if change.comparison:
        print(change.comparison)
    print(f"published version {change.version} of the retriever in {made.seconds['publish']:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Write the outputs of judging from its journal: judged pairs, a votes table, and what is left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quorum.bulk.judging.journal import Cell, Decider, Journal, JudgeError, path_of
from quorum.bulk.judging.labels import asked_by
from quorum.bulk.judging.pairs import Pair, Pairs
from quorum.decision.catalogue_change import OUTSIDE
from quorum.deployment.schema import Deployment
from quorum.files import write_atomic
from quorum.retrieval.judged import SIGNALS, JudgedError, JudgedPair
from quorum.retrieval.judged_files import SUFFIXES, read_provenance, write_judged
from quorum.tasks.default import Default
from quorum.votes import Cell as VotesCell
from quorum.votes import Origin, check_target
from quorum.votes.schema import known_scores, known_usage
from quorum.votes.write import replacing_votes
from quorum_client import Spent

BROKEN = "BROKEN"
RUN = "run"
"""Key of the provenance with what a run was of, as its journal had it."""


@dataclass(slots=True)
class Written:
    """Numbers of what was written, the version of the weights, and what the answers took."""

    version: int | None = None
    judged: int = 0
    by_votes: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    spent: Mapping[str, Any] = field(default_factory=dict)


def spent_of(journal: Journal) -> dict[str, Any]:
    """Calls, tokens and cost of the answers in a journal, as JSON values; {}: they do not say it."""
    return journal.spent.to_json() if journal.spent.answers else {}


def left_out_path(out: Path) -> Path:
    """The file that lists rows without a label."""
    return out.with_name(f"{out.name}.left-out.jsonl")


def check_outputs(out: Path, votes: Path | None, source: Path) -> None:
    """Refuse outputs that exist, or that are read or written already; nothing is opened.

    Raises:
        JudgeError: Names the file and what to do.
        VotesError: ``votes`` has the ending of no format.
    """
    if out.suffix not in SUFFIXES:
        raise JudgeError(f"--out {out}: cannot tell the format from {out.suffix!r}; use .parquet or .jsonl")
    if out.exists():
        raise JudgeError(f"--out {out}: exists already; name another file, or remove it")
    taken = {source.resolve(), out.resolve(), path_of(out).resolve(), left_out_path(out).resolve()}
    if votes is not None:
        if votes.resolve() in taken:
            raise JudgeError(f"--votes {votes}: that file is read or written already; name another")
        check_target(votes)
        journal = path_of(out)
        begun = journal.is_file() and journal.stat().st_size > 0
        if votes.exists() and not begun:
            raise JudgeError(f"--votes {votes}: exists already; name another file, or remove it")


def finished_before(out: Path, of: Mapping[str, Any]) -> Written | None:
    """What a run wrote that was killed before it removed its journal; None where there was none."""
    if not (out.is_file() and path_of(out).is_file()):
        return None
    try:
        stated = read_provenance(out)
        if stated.get(RUN) != dict(of):
            return None
        return Written(
            stated["weights"]["version"],
            stated["input"]["pairs"] - sum(n for why, n in stated["left_out"].items() if why != BROKEN),
            stated["spread"]["by_votes"],
            stated["left_out"],
            stated["spent"],
        )
    except (JudgedError, KeyError, TypeError):
        return None


def write_all(
    deployment: Deployment,
    pairs: Pairs,
    journal: Journal,
    of: Mapping[str, Any],
    out: Path,
    votes: Path | None,
) -> Written:
    """Write votes, then what is left out, then the judged pairs: with these a run is complete."""
    asked = asked_by(deployment)
    by_line = {cell.line: cell for cell, _ in journal.cells()}
    rows = [(pair, by_line[pair.line]) for pair in pairs.good]
    if votes is not None:
        votes.parent.mkdir(parents=True, exist_ok=True)
        version = journal.weights.version if journal.weights else None
        usage = {cell.line: used for cell, used in journal.cells()}
        _write_votes(deployment.member_names, rows, usage, Origin(of["channel"], version), votes)
    written = Written(by_votes=sum(cell.by_votes for _, cell in rows), spent=spent_of(journal))
    reasons = Counter(cell.reason.partition(":")[0] for _, cell in rows if cell.reason)
    written.left_out = dict(sorted(reasons.items())) | ({BROKEN: len(pairs.broken)} if pairs.broken else {})
    _list_left_out(pairs, rows, left_out_path(out))
    judged = (judged_pair(asked, pair, cell) for pair, cell in rows if not cell.reason)
    provenance = _provenance(deployment, journal, of, pairs, written)
    written.judged = write_judged(out, judged, provenance)
    return written


def judged_pair(asked: Default, pair: Pair, cell: Cell) -> JudgedPair:
    """A pair that has a decision, as the file of judged pairs has it."""
    return JudgedPair(
        item=pair.item,
        text=pair.text,
        category=pair.category,
        keyphrase=pair.keyphrase,
        label=cell.label,
        value=cell.value,
        confidence=cell.confidence,
        disagreement=cell.disagreement,
        gold=None if pair.gold is None else asked.grade(pair.gold),
        **dict(zip(SIGNALS, pair.signals, strict=True)),
    )


def _write_votes(
    members: Sequence[str],
    rows: Sequence[tuple[Pair, Cell]],
    usage: Mapping[int, Sequence[Spent]],
    origin: Origin,
    path: Path,
) -> None:
    with replacing_votes(path) as writer:
        for pair, cell in rows:
            if not cell.votes:
                continue
            row = VotesCell(
                product=pair.item,
                category=pair.category,
                title=pair.text,
                attribute=pair.keyphrase,
                values=tuple(vote.value for vote in cell.votes),
                gold=() if pair.gold is None else (pair.gold,),
                origin=origin,
                scores=known_scores(vote.score for vote in cell.votes),
                usage=known_usage(usage[cell.line]),
            )
            writer.write(row, members)


def _list_left_out(pairs: Pairs, rows: list[tuple[Pair, Cell]], path: Path) -> None:
    lines = sorted(_left_out(pairs, rows), key=lambda line: int(line["line"]))
    if not lines:
        path.unlink(missing_ok=True)
        return
    write_atomic(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _left_out(pairs: Pairs, rows: list[tuple[Pair, Cell]]) -> Iterator[dict[str, Any]]:
    for line, reason in pairs.broken:
        yield {"line": line, "reason": f"{BROKEN}: {reason}"}
    for pair, cell in rows:
        if cell.reason:
            yield {
                "line": pair.line,
                "item": pair.item,
                "keyphrase": pair.keyphrase,
                "reason": cell.reason,
            }


def judge_of(deployment: Deployment, weights: Decider | None) -> dict[str, Any]:
    """What the provenance of judged pairs says of their judge."""
    asked = asked_by(deployment)
    return {
        "weights": {
            "version": weights.version if weights else None,
            "hash": weights.hash if weights else None,
            "confidence": weights.confidence if weights else None,
        },
        "question": {
            "hash": asked.hash,
            "catalogue": deployment.catalogue().hashes[OUTSIDE],
            **asked.to_json(),
            "grades": {value: asked.grade(value) for value in asked.values},
        },
        "members": deployment.member_names,
    }


def _provenance(
    deployment: Deployment, journal: Journal, of: Mapping[str, Any], pairs: Pairs, written: Written
) -> dict[str, Any]:
    return {
        "judge": "quorum judge",
        **judge_of(deployment, journal.weights),
        "input": {"hash": of["input"], "pairs": len(pairs.good), "broken": len(pairs.broken)},
        "spread": {"by_votes": written.by_votes},
        "left_out": written.left_out,
        "spent": written.spent,
        RUN: dict(of),
    }

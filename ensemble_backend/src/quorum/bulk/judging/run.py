# SPDX-License-Identifier: Apache-2.0
"""Judge every pair of a file by the served ensemble; a run that was killed goes on where it was."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from quorum.bulk.callbacks import Note, Progress, ignore
from quorum.bulk.estimate import Sample, sample_of, sample_size
from quorum.bulk.judging.asking import Asking, judging_client
from quorum.bulk.judging.estimate import Estimate, estimate, in_words
from quorum.bulk.judging.journal import Cell, Journal, JudgeError, path_of
from quorum.bulk.judging.labels import Labels, asked_by
from quorum.bulk.judging.outputs import check_outputs, finished_before, left_out_path, spent_of, write_all
from quorum.bulk.judging.pairs import TEXT, Pairs, read_pairs
from quorum.bulk.judging.requests import Asked, requests_of
from quorum.deployment.schema import Deployment
from quorum.files import hash_file, locked, sync_folder
from quorum.records import Record
from quorum.tasks.default import Default
from quorum_client import AWAY_S, Extraction
from quorum_contract import STABLE
from quorum_contract.checks import MAX_ATTRIBUTES
from quorum_contract.errors import QuorumError


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeOptions:
    """Options of :func:`judge`.

    Attributes:
        out: Judged pairs to write, .parquet or .jsonl; needed unless ``dry_run``.
        votes: Votes table to write as well, for ``quorum learn``.
        text: Columns that an item's text is made of.
        per_request: Keyphrases asked together, 1 to 64.
        concurrency: Requests in flight.
        limit: Judge only so many pairs; None: all.
        max_bad: So many rows may be broken, and are listed next to the output.
        dry_run: Only estimate: a few requests are asked, nothing is written.
        channel: Ensemble to ask.
        url: ``host:port`` of the server; None: the local server, else the one that ``deploy.yaml`` names.
        timeout_s: Seconds per request.
        away_s: How long the run waits for a server that is away, in seconds.
    """

    out: str | Path | None = None
    votes: str | Path | None = None
    text: Sequence[str] = (TEXT,)
    per_request: int = 16
    concurrency: int = 16
    limit: int | None = None
    max_bad: int = 0
    dry_run: bool = False
    channel: str = STABLE
    url: str | None = None
    timeout_s: float = 60.0
    away_s: float = AWAY_S


@dataclass(frozen=True, slots=True)
class JudgeReport(Record):
    """Result of a run.

    Attributes:
        ended: "complete", or why nothing was written yet: "interrupted" by Ctrl-C, "unavailable" (no server),
            "failed" (some pairs have no answer); "dry_run" where none was wanted.
        judged: Pairs with a label.
        left_out: Why other pairs have none -> pairs: a name of :class:`quorum_client.DecisionStatus`, or
            "BROKEN" rows; they are listed in ``left_out_file``.
        left: Pairs that still have to be asked: run the same command again.
        asked: Pairs that this run asked; the others were in the journal.
        estimate: What the run was expected to take.
        out: Judged pairs; None: not written.
        votes: Votes table; None: not written.
        left_out_file: JSON lines with line, item, keyphrase and reason; None: nothing is left out.
        weights_version: Version that decided; None: nothing was answered.
        by_votes: Labels whose rest of the confidence the votes share out; that of the others is even.
        last_error: Why pairs failed.
        spent: Calls, tokens and cost of all answers that are kept, those of earlier runs included, as
            :meth:`quorum.bulk.spent.Totals.to_json` has them; {}: the server says nothing of them.
    """

    ended: Literal["complete", "interrupted", "unavailable", "failed", "dry_run"]
    judged: int
    left_out: dict[str, int]
    left: int
    asked: int
    estimate: Estimate | None = None
    out: Path | None = None
    votes: Path | None = None
    left_out_file: Path | None = None
    weights_version: int | None = None
    by_votes: int = 0
    last_error: str = ""
    spent: Mapping[str, Any] = field(default_factory=dict)


class _Kept:
    """Takes the outcomes of one run: into the journal, and counted."""

    def __init__(self, journal: Journal, progress: Progress, total: int) -> None:
        self.journal, self.asked = journal, 0
        self._progress, self._total = progress, total
        progress(len(journal.done), total)

    def __call__(self, cells: list[Cell], answer: Extraction | None) -> None:
        """Keep the outcomes of one request."""
        self.journal.add(cells, answer)
        self.asked += len(cells)
        self._progress(len(self.journal.done), self._total)


def judge(
    deployment: Deployment,
    pairs: str | Path,
    options: JudgeOptions,
    *,
    progress: Progress = ignore,
    note: Note = ignore,
) -> JudgeReport:
    """Ask the ensemble how relevant each keyphrase is to its item, and write soft labels.

    Outcomes are kept in a journal next to ``out`` as they come, and the same call goes on with them after
    anything that ended it. The outputs appear complete, at the end, and the journal is removed.

    Args:
        deployment: The deployment that is served, with a ``default`` question.
        pairs: CSV, JSON lines or Parquet, see :func:`quorum.bulk.judging.pairs.read_pairs`.
        options: See :class:`JudgeOptions`.
        progress: Called with the numbers of finished and of all pairs.
        note: Called with remarks: what the run will take, why it waits.

    Raises:
        PairsError: The pairs cannot be read, or too many rows are broken; nothing is asked.
        JudgeError: No question, an output that exists, a journal of another run, or other weights meanwhile.
        quorum_client.Unavailable: The channel does not answer; nothing is asked.
        OSError: A file cannot be written, or another run writes it.
    """
    source, asked = Path(pairs), asked_by(deployment)
    _check(options)
    found = read_pairs(
        source, deployment.catalogue(), options.text, limit=options.limit, max_bad=options.max_bad
    )
    labels = Labels(deployment)
    if options.dry_run:
        return _estimated(deployment, found, options, labels, note)
    if options.out is None:
        raise JudgeError("name the file of judged pairs with --out, .parquet or .jsonl")
    out, votes = Path(options.out), None if options.votes is None else Path(options.votes)
    of = _identity(deployment, asked, source, options)
    if (before := finished_before(out, of)) is not None:
        # Killed between the rename of the output and the end of its journal.
        path_of(out).unlink()
        note(f"{out} was complete already; removed the journal that a killed run left")
        listed = left_out_path(out) if before.left_out else None
        return JudgeReport(
            "complete", before.judged, before.left_out, 0, 0, None, out, votes, listed, before.version,
            before.by_votes, spent=before.spent,
        )  # fmt: skip
    check_outputs(out, votes, source)
    out.parent.mkdir(parents=True, exist_ok=True)
    path_of(out).touch()
    # Else a power cut may take the journal's name, and with it what is synced.
    sync_folder(out.parent)
    with locked(path_of(out)), Journal(path_of(out), of) as journal:
        return _judge(deployment, found, options, labels, journal, of, (out, votes), progress, note)


def _judge(
    deployment: Deployment,
    found: Pairs,
    options: JudgeOptions,
    labels: Labels,
    journal: Journal,
    of: Mapping[str, Any],
    targets: tuple[Path, Path | None],
    progress: Progress,
    note: Note,
) -> JudgeReport:
    out, votes = targets
    done_before = len(journal.done)
    if done_before:
        note(f"{out}: goes on; {done_before} of {len(found.good)} pairs are judged already")
    left = requests_of(found.good, options.per_request, journal.done)
    expected, asking, interrupted = None, None, False
    kept = _Kept(journal, progress, len(found.good))
    if left:
        asking = _asking(deployment, options, labels, note, kept)
        try:
            expected = asyncio.run(_ask_all(asking, deployment, left))
        except KeyboardInterrupt:
            interrupted = True
        finally:
            journal.sync()
    asked, error = kept.asked, asking.last_error if asking else ""
    remaining = len(found.good) - len(journal.done)
    version = journal.weights.version if journal.weights else None
    if remaining:
        gave_up = asking is not None and asking.has_given_up()
        ended: Any = "interrupted" if interrupted else "unavailable" if gave_up else "failed"
        return JudgeReport(
            ended, journal.decided, {}, remaining, asked, expected, weights_version=version, last_error=error,
            spent=spent_of(journal),
        )  # fmt: skip
    written = write_all(deployment, found, journal, of, out, votes)
    journal.remove()
    listed = left_out_path(out) if written.left_out else None
    return JudgeReport(
        "complete", written.judged, written.left_out, 0, asked, expected, out, votes, listed, version,
        written.by_votes, spent=written.spent,
    )  # fmt: skip


def _asking(
    deployment: Deployment, options: JudgeOptions, labels: Labels, note: Note, kept: _Kept | None
) -> Asking:
    """Ask as the options say; None: answers are dropped. Raises Unavailable where the channel is silent."""
    return Asking(
        client=judging_client(deployment, options.url, options.timeout_s, options.channel),
        labels=labels,
        decided_by=kept.journal.decide_by if kept else lambda _: None,
        keep=kept or (lambda *_: None),
        note=note,
        concurrency=options.concurrency,
        away_s=options.away_s,
    )


async def _ask_all(asking: Asking, deployment: Deployment, requests: Sequence[Asked]) -> Estimate:
    """Ask a sample first, say what the rest takes, then ask the rest, and again what failed."""
    async with asking.client:
        first = set(sample_of(requests, sample_size(asking.concurrency)))
        failed = await asking.ask([requests[n] for n in sorted(first)])
        expected = estimate(deployment, requests, asking.sample, asking.concurrency)
        asking.note(in_words(expected, deployment.currency))
        for remark in expected.remarks:
            asking.note(remark)
        failed += await asking.ask([asked for n, asked in enumerate(requests) if n not in first])
        await asking.ask_again(failed)
    return expected


def _estimated(
    deployment: Deployment, found: Pairs, options: JudgeOptions, labels: Labels, note: Note
) -> JudgeReport:
    """Ask a few requests, whose answers are dropped, for the time that one takes."""
    requests = requests_of(found.good, options.per_request)
    sample = Sample()
    try:
        asking = _asking(deployment, options, labels, note, None)
    except QuorumError as error:
        note(f"no server, so that the time is not estimated: {error}")
    else:
        sample = asking.sample

        async def ask_some() -> None:
            async with asking.client:
                await asking.ask([requests[n] for n in sample_of(requests, sample_size(asking.concurrency))])

        asyncio.run(ask_some())
    expected = estimate(deployment, requests, sample, options.concurrency)
    left_out = {"BROKEN": len(found.broken)} if found.broken else {}
    return JudgeReport("dry_run", 0, left_out, len(found.good), 0, expected)


def _check(options: JudgeOptions) -> None:
    if not 1 <= options.per_request <= MAX_ATTRIBUTES:
        raise JudgeError(f"--per-request {options.per_request}: give 1 to {MAX_ATTRIBUTES} keyphrases")
    for name, number, least in (
        ("--concurrency", options.concurrency, 1),
        ("--limit", 1 if options.limit is None else options.limit, 1),
        ("--max-bad", options.max_bad, 0),
        ("--patience", options.away_s, 0),
    ):
        if not number >= least:
            raise JudgeError(f"{name} {number}: give {least} or more")
    if not options.text:
        raise JudgeError("--text: name at least one column")


def _identity(deployment: Deployment, asked: Default, source: Path, options: JudgeOptions) -> dict[str, Any]:
    """What a run is of, by the words that a refusal names: a journal of another one is not gone on with."""
    with suppress(OSError):
        return {
            "input": hash_file(source),
            "text columns": list(options.text),
            "limit": options.limit,
            "question": asked.hash,
            "members": deployment.member_names,
            "channel": options.channel,
        }
    raise JudgeError(f"{source}: cannot be read again; keep the file in place while it is judged")

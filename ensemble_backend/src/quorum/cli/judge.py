# SPDX-License-Identifier: Apache-2.0
"""``quorum judge``: soft labels for pairs of item and keyphrase, by the served ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import quorum
from quorum.bulk.judging.estimate import in_words
from quorum.bulk.spent import totals_in_words
from quorum.cli.console import (
    DEPLOY,
    CommandError,
    DeployOption,
    JsonOption,
    ProgressBar,
    counted,
    note,
    print_json,
)
from quorum.cli.options import UrlOption, names_in, parse_wait
from quorum.cli.signals import terminated_as_interrupted
from quorum_contract import STABLE

_INTERRUPTED = 130


PairsArgument = Annotated[
    Path,
    typer.Argument(
        help="CSV, JSONL (packed or not) or Parquet with item, text and keyphrase; optional"
        " category, gold, clicks, impressions, position, relevance."
    ),
]
OutputOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="Judged pairs to write: .parquet or .jsonl.")
]
VotesOption = Annotated[
    Path | None, typer.Option(help="Also write every vote, for `quorum learn`: JSONL or Parquet.")
]
TextOption = Annotated[
    str, typer.Option(help="Columns of the item's text, comma-separated, joined by spaces.")
]
PerRequestOption = Annotated[int, typer.Option(help="Keyphrases asked together, 1 to 64.")]
MaxBadOption = Annotated[
    int, typer.Option(help="So many rows may be broken; OUT.left-out.jsonl lists them by line.")
]
DryRunOption = Annotated[
    bool, typer.Option(help="Only estimate requests, tokens, cost and time, from a few requests.")
]
PatienceOption = Annotated[
    str, typer.Option("--patience", help="How long to wait for a server that is away: 90s, 10m.")
]


def judge(
    pairs: PairsArgument,
    output: OutputOption = None,
    votes: VotesOption = None,
    text: TextOption = "text",
    per_request: PerRequestOption = 16,
    concurrency: Annotated[int, typer.Option(help="Requests in flight.")] = 16,
    limit: Annotated[int | None, typer.Option(help="Judge only so many pairs.")] = None,
    max_bad: MaxBadOption = 0,
    dry_run: DryRunOption = False,
    channel: Annotated[str, typer.Option(help="quorum, quorum_canary, or a lazy one.")] = STABLE,
    url: UrlOption = None,
    timeout: Annotated[float, typer.Option(help="Seconds per request.")] = 60.0,
    patience: PatienceOption = "60s",
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Ask the ensemble how relevant keyphrases are to items; writes soft labels.

    The question is `default:` of deploy.yaml. A label is the expected grade under the ensemble's confidence.

    Whatever ends a run, the same command goes on: what is judged is kept in OUT.journal. Pairs without a
    decision are left out, counted, and listed in OUT.left-out.jsonl.

    Example: `quorum judge pairs.jsonl --out judged.parquet --votes votes.jsonl --text title,description`
    """
    options = quorum.JudgeOptions(
        out=output,
        votes=votes,
        text=names_in(text) or [],
        per_request=per_request,
        concurrency=concurrency,
        limit=limit,
        max_bad=max_bad,
        dry_run=dry_run,
        channel=channel,
        url=url,
        timeout_s=timeout,
        away_s=parse_wait("--patience", patience),
    )
    with terminated_as_interrupted(), ProgressBar("judge", "pairs") as bar:
        deployment = quorum.load_deployment(deploy)
        report = quorum.judge(deployment, pairs, options, progress=bar, note=note)
    if json:
        print_json(report)
    else:
        _show(report, deployment.currency)
    if report.ended == "interrupted":
        note("interrupted; run the same command again to go on")
        raise typer.Exit(_INTERRUPTED)
    if report.left and report.ended != "dry_run":
        raise CommandError(
            f"{counted(report.left, 'pair')} without an answer, the last error: {report.last_error};"
            " run the same command again to go on"
        )


def _show(report: quorum.JudgeReport, currency: str) -> None:
    if report.ended == "dry_run":
        if report.estimate:
            note(in_words(report.estimate, currency))
            for remark in report.estimate.remarks:
                note(remark)
        return
    if report.left_out:
        reasons = ", ".join(f"{number} {reason}" for reason, number in report.left_out.items())
        note(f"left out: {reasons}; {report.left_out_file} lists them")
    if report.out:
        also = f" and {report.votes}" if report.votes else ""
        note(
            f"{counted(report.judged, 'pair')} judged by weights version {report.weights_version},"
            f" {report.asked} of them now; wrote {report.out}{also}"
        )
    if report.spent:
        note(totals_in_words(report.spent, currency))

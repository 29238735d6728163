# SPDX-License-Identifier: Apache-2.0
"""``quorum extract``: ask the running server about every row of files, as a job that can be resumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import typer

import quorum
from quorum.bulk.dry_run import in_words as in_words_of_run
from quorum.bulk.durations import in_words
from quorum.bulk.inputs.options import PART_ROWS, InputOptions
from quorum.bulk.options import MAX_BAD
from quorum.cli import extract_options as given
from quorum.cli.console import DEPLOY, CommandError, DeployOption, JsonOption, counted, note, print_json
from quorum.cli.job_progress import JobDisplay
from quorum.cli.options import load_if_any, names_in, parse_canary_share, parse_wait
from quorum.cli.signals import terminated_as_interrupted
from quorum_client import ChannelNotFound, Status, Unavailable
from quorum_contract import BULK, LAZY_OF, STABLE

_INTERRUPTED = 130
_TRY_AGAIN = 75
"""As ``EX_TEMPFAIL`` of sysexits.h: the same command goes on."""
_NOT_ASKED = Status.NOT_ASKED.name
_EXPLAINED = " (docs/errors.md says what each means)"
_AGAIN = "run the same command again"


def extract(
    files: given.FilesArgument,
    output: given.OutOption = None,
    votes: given.VotesOption = None,
    force: given.ForceOption = False,
    part_rows: given.PartRowsOption = PART_ROWS,
    escape: given.EscapeOption = True,
    job: given.JobOption = None,
    text: given.TextOption = None,
    id_column: given.IdOption = None,
    category: given.CategoryOption = None,
    input_format: given.FormatOption = None,
    encoding: given.EncodingOption = None,
    delimiter: given.DelimiterOption = None,
    quote: given.QuoteOption = None,
    attributes: given.AttributesOption = None,
    open_ones: given.OpenOption = False,
    channel: given.ChannelOption = STABLE,
    canary_share: given.CanaryShareOption = None,
    lazy: given.LazyOption = False,
    only: given.OnlyOption = None,
    dry_run: given.DryRunOption = False,
    url: given.UrlOption = None,
    engine: given.EngineOption = "local",
    ray_address: given.RayAddressOption = None,
    concurrency: given.ConcurrencyOption = "auto",
    priority: given.PriorityOption = BULK,
    timeout: given.TimeoutOption = 60.0,
    patience: given.PatienceOption = "10m",
    retry_failed: given.RetryFailedOption = False,
    max_bad: given.MaxBadOption = MAX_BAD,
    accept_new_weights: given.AcceptNewWeightsOption = False,
    progress_every: given.ProgressEveryOption = "30s",
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Ask about every row of files: it is in the output, or in OUT.dead.jsonl with its reason, exactly once.

    **It is a job.** Whatever ends it (Ctrl-C, kill -9, a power cut, a full disk), the same command goes on:
    what was answered is kept in the folder OUT.job, and is not asked or paid again. At most the requests in
    flight are paid twice. Other options, another catalogue or other weights are refused.

    **A server that is away, full or starting** is waited for, up to --patience. Then the job stops with exit
    code 75, and the same command goes on.

    **Rows that fail** are marked in the output; --retry-failed asks them again, and those that no member
    answered because members failed. Rows that cannot be read are listed in OUT.dead.jsonl with their reason
    and row; more than --max-bad end the run.

    Exit codes: 0 every row answered; 1 some failed, were answered by no member, or refused; 75 the server was
    away: type it again; 130 Ctrl-C or SIGTERM: type it again.

    With --only, a member that is new, or was replaced, is asked on a server of its own, and no other member
    is: its votes go into the recorded table --votes.

    Example: `quorum extract listings.csv.gz --out answers.parquet`

    Example: `quorum extract 'feed/*.parquet' --text title,description --out answers/ --votes votes.parquet`

    Example: `quorum extract listings.csv --dry-run` (what it would take: calls, tokens, cost, time)

    Example: `quorum extract listings.csv --only new-llm --votes votes.jsonl`
    """
    options = quorum.ExtractOptions(
        out=output,
        votes=votes,
        job=job,
        attributes=names_in(attributes),
        open=open_ones,
        text=names_in(text),
        id=id_column,
        category=category,
        inputs=InputOptions(
            format=input_format,
            encoding=encoding,
            delimiter=delimiter,
            quote=quote,
        ),
        part_rows=part_rows,
        max_bad=max_bad,
        channel=channel,
        canary_share=parse_canary_share(canary_share),
        concurrency=_concurrency(concurrency),
        url=url,
        engine=engine,
        ray_address=ray_address,
        timeout_s=timeout,
        patience_s=parse_wait("--patience", patience),
        only=only,
        force=force,
        escaped=escape,
        priority=priority,
        lazy=lazy,
        retry_failed=retry_failed,
        accept_new_weights=accept_new_weights,
    )
    every_s = parse_wait("--progress-every", progress_every)
    known = load_if_any(deploy) if url and only is None and not dry_run else quorum.load_deployment(deploy)
    deployment = known or _deployment_at(url or "", options)
    if dry_run:
        expected = quorum.estimate_extract(deployment, files, options, note=note)
        show_estimate(expected, deployment.currency, json)
        return
    _run(deployment, files, options, every_s, json)


@contextmanager
def _before_any_is_asked() -> Iterator[None]:
    try:
        with terminated_as_interrupted():
            yield
    except KeyboardInterrupt as error:
        note(f"interrupted before anything was asked; {_AGAIN}")
        raise typer.Exit(_INTERRUPTED) from error
    except (Unavailable, ChannelNotFound) as error:
        note(f"stopped before anything was asked: {error}; `quorum up` starts a server here, then {_AGAIN}")
        raise typer.Exit(_TRY_AGAIN) from error


def _deployment_at(url: str, options: quorum.ExtractOptions) -> quorum.Deployment:
    with _before_any_is_asked():
        return quorum.deployment_at(
            url,
            options.attributes,
            options.asked_channel,
            lazy=options.lazy,
            patience_s=options.patience_s,
            note=note,
        )


def _run(
    deployment: quorum.Deployment,
    files: list[str],
    options: quorum.ExtractOptions,
    every_s: float,
    json: bool,
) -> None:
    with _before_any_is_asked(), JobDisplay(deployment.currency, every_s) as display:
        report = quorum.extract(deployment, files, options, progress=display, note=note)
    print_json(report) if json else _show(
        report, deployment.currency, is_lazy=options.asked_channel in LAZY_OF.values()
    )
    if report.ended == "interrupted":
        note(f"interrupted, {report.left} rows are left; {_AGAIN}")
        raise typer.Exit(_INTERRUPTED)
    if report.ended == "unavailable":
        waited = f" for {in_words(options.patience_s)}" if options.patience_s else ""
        note(
            f"stopped, {report.left} rows are left: the server did not answer{waited}"
            f" ({report.last_error}). Once `quorum status` says that the channel answers, {_AGAIN}"
        )
        raise typer.Exit(_TRY_AGAIN)
    if report.failed or report.bad or report.voteless:
        raise typer.Exit(1)


def _concurrency(text: str) -> int | Literal["auto"]:
    if text != "auto" and not text.isdecimal():
        raise CommandError(f"--concurrency {text!r}: give a whole number, or auto")
    return "auto" if text == "auto" else int(text)


def show_estimate(expected: quorum.Expected, currency: str, json: bool) -> None:
    """Print what a run takes."""
    if json:
        print_json(expected)
        return
    note(in_words_of_run(expected, currency))
    for remark in expected.remarks:
        note(f"{remark}: raise it, as what is cut off is lost")


def _show(report: quorum.ExtractReport, currency: str, *, is_lazy: bool = False) -> None:
    tally = report.tally
    if report.routed:
        counts = ", ".join(f"{name}: {count}" for name, count in sorted(tally.channels.items()))
        note(f"answered by {counts}")
    parts = [f"{report.answered} answered", f"{report.failed} failed"]
    parts += [f"{counted(report.bad, 'bad row')}"] if report.bad else []
    parts += [f"{report.left} left"] if report.left else []
    wrote = f"; wrote {' and '.join(report.outputs)}" if report.outputs else ""
    note(f"{', '.join(parts)}{wrote}")
    if tally.spent.answers:
        note(tally.spent.in_words(currency))
    if tally.errors:
        note(_why_failed(report))
    if len(tally.weights) > 1:
        note(f"decided by weights {_counts({f'version {v}': n for v, n in sorted(tally.weights.items())})}")
    if tally.undecided:
        without = sum(tally.undecided.values())
        why = f"{_counts(tally.undecided)}{_EXPLAINED}"
        note(f"no value in {without} of {tally.decided + without} answers: {why}")
    spared = sum(found.get(_NOT_ASKED, 0) for found in tally.abstained.values()) if is_lazy else 0
    if spared:
        note(f"lazy: spared {spared} of {tally.voted + tally.absent} questions")
    without_spared = {
        name: {status: n for status, n in found.items() if not (is_lazy and status == _NOT_ASKED)}
        for name, found in tally.abstained.items()
    }
    if tally.absent > spared:
        reasons = "; ".join(f"{name} {_counts(found)}" for name, found in without_spared.items() if found)
        again = "; they are asked again by the next run" if report.only else ""
        cases = f"{tally.absent - spared} of {tally.voted + tally.absent - spared} cases"
        note(f"no vote in {cases}: {reasons}{again}{_EXPLAINED}")
    if report.voteless:
        again = "" if report.only else ": --retry-failed asks them again"
        note(f"{counted(report.voteless, 'row')} answered by no member{again}")


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(found.items()))


def _why_failed(report: quorum.ExtractReport) -> str:
    """The most frequent error of the rows that failed."""
    tally = report.tally
    code, rows = max(tally.errors.items(), key=lambda item: item[1])
    of_all = f"{rows} of {report.failed} failed" if rows < report.failed else f"{rows} failed"
    again = "" if report.only else "; --retry-failed asks them again"
    return f"{of_all} with {code}, the first: {tally.messages[code]}{again}"

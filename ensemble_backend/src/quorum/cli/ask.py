# SPDX-License-Identifier: Apache-2.0
"""``quorum ask | extract``: ask the running server about one product or a file of listings."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

import quorum
from quorum.bulk.answers import as_probability, in_words
from quorum.bulk.ask import why_withheld
from quorum.bulk.dry_run import in_words as in_words_of_run
from quorum.bulk.listings import ID_COLUMNS
from quorum.bulk.spent import spent_in_words
from quorum.cli.console import DEPLOY, DeployOption, JsonOption, ProgressBar, note, out, print_json
from quorum.cli.options import AttributesOption, UrlOption, load_if_any, names_in, parse_canary_share
from quorum.cli.signals import terminated_as_interrupted
from quorum_client import AWAY_S, Answer, DecisionStatus, Overloaded, Status, Vote
from quorum_contract import BULK, STABLE, Priority

_INTERRUPTED = 130
_UNBOUNDED = 10_000
# Of an LLM, text that gives no value of the attribute; of recorded votes, no vote on it.
_WORDS = {Status.UNPARSABLE: "no usable answer"}
_UNDECIDED = {
    DecisionStatus.NO_ANSWER: "no member answered",
    DecisionStatus.NO_QUORUM: "no quorum",
}

ChannelOption = Annotated[str, typer.Option(help="quorum or quorum_canary.")]
LazyOption = Annotated[
    bool,
    typer.Option(
        "--lazy",
        help="Ask members in rows, later ones only while they can still change a value: fewer calls."
        " Needs `lazy` in deploy.yaml.",
    ),
]


def ask(
    text: Annotated[
        str, typer.Argument(help="Product title or description; leave it out with --field.")
    ] = "",
    attributes: AttributesOption = None,
    field: Annotated[
        list[str] | None,
        typer.Option(help="NAME=TEXT, once per field, for attributes with `fields`.", show_default=False),
    ] = None,
    category: Annotated[str, typer.Option(help="Product category.")] = "",
    channel: ChannelOption = STABLE,
    lazy: LazyOption = False,
    url: UrlOption = None,
    timeout: Annotated[float, typer.Option(help="Seconds.")] = 30.0,
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Ask about one product; shows the answer and every member's vote.

    p=.93: the member itself gave its answer the probability 0.93. With --json, `score` is its logarithm.

    Of written texts the confidence is how alike they are, not a probability.

    With --url and --attributes no deploy.yaml is needed.

    Example: `quorum ask "Velmora trail running shoes, navy, size 42, for men" --attributes color,size`
    """
    deployment = load_if_any(deploy) if url else quorum.load_deployment(deploy)
    result = quorum.ask(
        deployment,
        _text_of(text, field or []),
        names_in(attributes),
        category=category,
        channel=channel,
        url=url,
        timeout_s=timeout,
        note=note,
        lazy=lazy,
    )
    if json:
        print_json(quorum.extraction_json(result))
        return
    known = deployment.attributes if deployment else {}
    written = {name for name, attribute in known.items() if attribute.kind == "text"}
    table = _wide(result.answers, written)
    unbounded = out.options.update(width=_UNBOUNDED)
    fits = Measurement.get(out, unbounded, table).maximum <= out.width
    out.print(table if fits else _narrow(result.answers, written))
    if any(vote.score is not None for answer in result.answers for vote in answer.votes):
        note("p: the probability that the member gave to its value")
    for answer in result.answers:
        if answer.status is DecisionStatus.NO_QUORUM:
            why = f": {why_withheld(deployment, answer)}" if deployment else ""
            note(f"no quorum: {answer.attribute} is withheld{why}")
    currency = deployment.currency if deployment else ""
    spent = f", {spent_in_words(result.spent, currency)}" if result.spent else ""
    note(f"weights version {result.weights_version}, {result.latency_s * 1e3:.0f} ms{spent}")


def _text_of(text: str, fields: Sequence[str]) -> str | Mapping[str, str]:
    """The text, or the fields of ``--field``."""
    if not fields and not text:
        raise typer.BadParameter("give a title or description, or --field", param_hint="TEXT")
    if not fields:
        return text
    if text:
        raise typer.BadParameter("give a text or fields, not both", param_hint="--field")
    pairs = [field.partition("=") for field in fields]
    if wrong := next((name for name, equals, _ in pairs if not equals), None):
        raise typer.BadParameter(f"{wrong!r} has no '='; write NAME=TEXT", param_hint="--field")
    return {name.strip(): value for name, _, value in pairs}


def _wide(answers: Sequence[Answer], written: Container[str]) -> Table:
    """A row for each attribute, a column for each member."""
    table = Table("attribute", "answer", "confidence", *(vote.member for vote in answers[0].votes))
    for answer in answers:
        votes = map(_vote_cell, answer.votes)
        table.add_row(Text(answer.attribute), _answer_cell(answer), _sure(answer, written), *votes)
    return table


def _narrow(answers: Sequence[Answer], written: Container[str]) -> Table:
    """A block for each attribute, with a row for each member."""
    table = Table(
        Column("attribute, member", overflow="fold"), Column("answer, vote", overflow="fold"), "confidence"
    )
    for answer in answers:
        table.add_row(Text(answer.attribute, "bold"), _answer_cell(answer), _sure(answer, written))
        for vote in answer.votes:
            table.add_row(Text(f"  {vote.member}"), _vote_cell(vote), "")
        table.add_section()
    return table


def _sure(answer: Answer, written: Container[str]) -> str:
    """The confidence, which of written texts is no probability."""
    return f"{answer.confidence:.0%}" + " alike" * (answer.attribute in written)


def _answer_cell(answer: Answer) -> Text:
    return _cell(answer.value, _UNDECIDED.get(answer.status, "no value"), "bold")


def _cell(value: str | None, reason: str, style: str = "") -> Text:
    # As Text: values may hold brackets, which a string would lose as markup.
    return Text(f"({reason})", "dim") if value is None else Text(in_words(value), style)


def _vote_cell(vote: Vote) -> Text:
    status = _WORDS.get(vote.status, vote.status.name.lower().replace("_", " "))
    cell = _cell(vote.value, status)
    return cell if vote.score is None else cell.append(f" {as_probability(vote.score)}", "dim")


def extract(
    file: Annotated[
        Path, typer.Argument(help="CSV or JSONL with a text column (title, text, input or name).")
    ],
    output: Annotated[Path | None, typer.Option("--out", "-o", help="CSV or JSONL to write.")] = None,
    votes: Annotated[
        Path | None, typer.Option(help="Also write every vote, for `quorum learn`: JSONL or Parquet.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace --out and --votes if they exist.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Write nothing; estimate calls, tokens, cost and time, from a few listings."
        ),
    ] = False,
    attributes: AttributesOption = None,
    text_column: Annotated[str | None, typer.Option(help="Column with the product text.")] = None,
    id_column: Annotated[
        str | None,
        typer.Option(
            help="Column with the product's id, which canary routing goes by and votes are joined by;"
            f" default: {', '.join(ID_COLUMNS)}, else the row number."
        ),
    ] = None,
    channel: ChannelOption = STABLE,
    lazy: LazyOption = False,
    canary_share: Annotated[
        str | None,
        typer.Option(
            help="Share of the products to route to the canary: 5%, or `served` (the server's setting)."
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 16,
    url: UrlOption = None,
    timeout: Annotated[float, typer.Option(help="Seconds per listing.")] = 60.0,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Ask this member alone and add its votes to --votes; may be repeated."),
    ] = None,
    escape: Annotated[
        bool,
        typer.Option(
            help="In CSV, put an apostrophe in front of cells that start with = + - @, a tab or a carriage"
            " return, which a spreadsheet would run as formulas, and replace control characters; --no-escape"
            " leaves cells as they are, for machines."
        ),
    ] = True,
    priority: Annotated[
        Priority,
        typer.Option(
            help="bulk: make room for other callers, and wait while the server is busy; interactive: do not."
        ),
    ] = BULK,
    away: Annotated[
        float,
        typer.Option(
            min=0, help="Seconds that a bulk run waits for a server that is away, as for a restart."
        ),
    ] = AWAY_S,
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Ask about every listing of a file. Answers are written as they come; a listing that fails is marked.

    A server that is away is waited for, see --away; then the run stops when 20 listings in a row find no
    server to answer. Exit code 1 when a listing failed, 130 after Ctrl-C or SIGTERM; answers so far are
    written.

    With --only, a member that is new, or was replaced, is asked on a server of its own, and no other member
    is: its votes go into the recorded table --votes. Run it again to go on after an interruption.

    With --dry-run a few listings are asked, which costs what they cost, and nothing is written.

    Example: `quorum extract listings.csv --out answers.csv --votes votes.jsonl`

    Example: `quorum extract listings.csv --dry-run`

    Example: `quorum extract listings.csv --only new-llm --votes votes.jsonl`
    """
    options = quorum.ExtractOptions(
        out=output,
        votes=votes,
        attributes=names_in(attributes),
        text_column=text_column,
        id_column=id_column,
        channel=channel,
        canary_share=parse_canary_share(canary_share),
        concurrency=concurrency,
        url=url,
        timeout_s=timeout,
        only=only,
        force=force,
        escaped=escape,
        priority=priority,
        away_s=away,
        lazy=lazy,
    )
    deployment = quorum.load_deployment(deploy)
    if dry_run:
        show_estimate(
            quorum.estimate_extract(deployment, file, options, note=note), deployment.currency, json
        )
        return
    with terminated_as_interrupted(), ProgressBar("extract") as bar:
        report = quorum.extract(deployment, file, options, progress=bar, note=note)
    print_json(report) if json else _show(report, deployment.currency)
    if report.ended != "complete":
        note(_why_ended(report))
    if report.ended == "interrupted":
        raise typer.Exit(_INTERRUPTED)
    if report.failed:
        raise typer.Exit(1)


def show_estimate(expected: quorum.Expected, currency: str, json: bool) -> None:
    """Print what a run takes."""
    if json:
        print_json(expected)
        return
    note(in_words_of_run(expected, currency))
    for remark in expected.remarks:
        note(f"{remark}: raise it, as what is cut off is lost")


def _show(report: quorum.ExtractReport, currency: str) -> None:
    if report.routed:
        counts = ", ".join(f"{name}: {count}" for name, count in sorted(report.by_channel.items()))
        note(f"answered by {counts}")
    written = " and ".join(str(path) for path in (report.out, report.votes) if path)
    left = f", {report.left} left" if report.left else ""
    note(f"{report.answered} answered, {report.failed} failed{left}; wrote {written}")
    if report.spent.answers:
        note(report.spent.in_words(currency))
    if report.errors:
        note(_why_failed(report))
    if report.undecided:
        reasons = _counts(report.undecided)
        without = sum(report.undecided.values())
        note(f"no value in {without} of {report.decided + without} answers: {reasons}")
    if report.abstained:
        reasons = "; ".join(f"{name} {_counts(found)}" for name, found in report.abstained.items())
        again = "; they are asked again by the next run" if report.only else ""
        missing = sum(sum(found.values()) for found in report.abstained.values())
        note(f"no vote in {missing} of {report.voted + missing} cases: {reasons}{again}")


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in found.items())


def _why_failed(report: quorum.ExtractReport) -> str:
    """The most frequent error of the listings that failed."""
    code, (listings, first) = max(report.errors.items(), key=lambda item: item[1][0])
    of_all = f"{listings} of {report.failed} failed" if listings < report.failed else f"{listings} failed"
    wait = "; without `--priority interactive` the run waits" if code == Overloaded.code else ""
    return f"{of_all} with {code}, the first: {first}{wait}"


def _why_ended(report: quorum.ExtractReport) -> str:
    """Why the run ended early, and how to go on."""
    if report.only:
        last = f", the last one: {report.last_error}" if report.last_error else ""
        return f"{report.ended}{last}; run the same command again to go on"
    if report.ended == "interrupted":
        return f"interrupted; to go on, extract the rows from {report.resume} on into another file"
    return (
        f"stopped: {report.silent} rows in a row found no server, the last one: {report.last_error}."
        f" Once `quorum status` says that the channel answers, extract the rows from {report.resume} on into"
        " another file"
    )

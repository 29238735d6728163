# SPDX-License-Identifier: Apache-2.0
"""``quorum ask``: ask the running server about one product."""

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
from quorum.bulk.spent import spent_in_words
from quorum.cli.console import DEPLOY, DeployOption, JsonOption, new_table, note, out, print_json
from quorum.cli.options import AttributesOption, UrlOption, load_if_any, names_in
from quorum_client import Answer, DecisionStatus, Status, Tls, Vote
from quorum_contract import STABLE

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
    tls: Annotated[
        bool, typer.Option("--tls", help="Ask over TLS, with the authorities of this system.")
    ] = False,
    ca: Annotated[
        Path | None, typer.Option(help="Ask over TLS, with the authorities of this PEM file.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds.")] = 30.0,
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Ask about one product; shows the answer and every member's vote.

    p=.93: the member itself gave its answer the probability 0.93. With --json, `score` is its logarithm.

    Of written texts the confidence is how alike they are, not a probability.

    With --url and --attributes no deploy.yaml is needed. A gateway takes the key in QUORUM_INFERENCE_KEY.

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
        tls=Tls(ca) if ca else tls,
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
    table = new_table("attribute", "answer", "confidence", *(vote.member for vote in answers[0].votes))
    for answer in answers:
        votes = map(_vote_cell, answer.votes)
        table.add_row(Text(answer.attribute), _answer_cell(answer), _sure(answer, written), *votes)
    return table


def _narrow(answers: Sequence[Answer], written: Container[str]) -> Table:
    """A block for each attribute, with a row for each member."""
    table = new_table(
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

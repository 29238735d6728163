# SPDX-License-Identifier: Apache-2.0
"""``quorum review``: a page on which people decide the cells whose gold teaches most, by keys."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

import quorum
from quorum.cli.console import (
    DEPLOY,
    CommandError,
    DeployOption,
    JsonOption,
    counted,
    new_table,
    note,
    out,
    print_json,
)
from quorum.cli.options import load_if_any
from quorum.cli.signals import interrupt_once
from quorum.review.page.export import FORMATS, ReviewFormat
from quorum.review.page.queue import Order


def review(
    votes: Annotated[Path, typer.Argument(help="A votes table (JSONL or Parquet).")],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The table with gold; its journal of decisions is next to it (default: VOTES.labels.jsonl).",
        ),
    ] = None,
    reviewer: Annotated[
        list[str] | None,
        typer.Option(help="Who decides; may be repeated, each person has a link (default: your user name)."),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Cells to review.")] = 200,
    order: Annotated[
        Order,
        typer.Option(
            help="`teach`: what teaches weights most, `unsure`: the least confident, `mixed`: in turn."
        ),
    ] = "mixed",
    overlap: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the cells that every reviewer decides.")
    ] = 1.0,
    weights: Annotated[
        Path | None, typer.Option(help="Weights that decide; without them every member counts the same.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the cells.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen at; one that others reach needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: a free one.")] = 0,
    token: Annotated[
        str | None,
        typer.Option(envvar="QUORUM_REVIEW_TOKEN", help="What browsers must bring (default: a random one)."),
    ] = None,
    name: Annotated[
        str, typer.Option(help="The name by which browsers reach it, through a proxy with TLS.")
    ] = "",
    export: Annotated[
        list[str] | None,
        typer.Option(help="FORMAT=FILE, then end: label-studio=tasks.json or argilla=records.json."),
    ] = None,
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Open a page on which people decide doubtful cells by keys: digits choose, Enter accepts, z undoes.

    Every decision is on the disk before the page goes on, also when this is killed: the same command goes on.
    OUT is the votes table with the gold, which `quorum learn` and `quorum evaluate` read. Where reviewers
    differ a cell has no gold until somebody settles it on the page (key d). Existing gold stays.

    Example: `quorum review votes.jsonl --weights weights.json --reviewer ann --reviewer bob`, then
    `quorum learn votes.labels.jsonl`
    """
    spec = load_if_any(deploy)
    catalogue = spec.catalogue() if spec else None
    options = quorum.ReviewOptions(
        reviewers=reviewer or [_user()],
        count=count,
        order=order,
        overlap=overlap,
        seed=seed,
        weights=weights,
    )
    table = labels or Path(f"{votes.stem}.labels.jsonl")
    if export:
        targets = [_target(text) for text in export]
        report = quorum.export_review(votes, table, options, targets, catalogue=catalogue)
    else:
        interrupt_once()
        page = quorum.PageOptions(host=host, port=port, token=token, name=name)
        report = quorum.serve_review(
            votes, table, options, page, catalogue=catalogue, started=_show_links, problem=note
        )
    print_json(report) if json else _show(report)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "reviewer"


def _target(text: str) -> tuple[ReviewFormat, Path]:
    given, _, file = text.partition("=")
    for form in FORMATS:
        if form == given and file:
            return form, Path(file)
    raise CommandError(f"--export {text}: write FORMAT=FILE, with one of {', '.join(FORMATS)}")


def _show_links(urls: list[str]) -> None:
    note("open in a browser; Ctrl-C ends, and the same command goes on:")
    for url in urls:
        note(f"  {url}")


def _show(report: quorum.ReviewReport) -> None:
    for remark in report.remarks:
        note(remark)
    figures = report.tally
    if figures.cells:
        expected = "" if figures.promised is None else f" (it expected {figures.promised:.1f})"
        cells = counted(figures.cells, "cell")
        right = f"the ensemble was right in {figures.accepted}{expected}"
        note(f"{cells} decided: {right}, decisions changed {figures.changed}")
    if report.agreement:
        table = new_table("reviewers", "cells of both", "same answer", "kappa")
        for pair in report.agreement:
            kappa = "-" if pair.kappa is None else f"{pair.kappa:.2f}"
            table.add_row(
                Text(f"{pair.first}, {pair.second}"),
                str(pair.cells),
                f"{pair.agreed / pair.cells:.0%}",
                kappa,
            )
        out.print(table)
    if report.unsettled:
        note(f"{counted(report.unsettled, 'cell')} without gold until settled on the page (key d)")
    if report.out is None:
        note(f"no label yet; decisions are in {report.journal}")
        return
    more = sum(1 for need in report.needs if need.more)
    if more:
        note(f"{counted(more, 'attribute')} still without enough labels (`quorum label` lists them)")
    note(f"{counted(report.labels, 'label')} in {report.out}; next: `quorum learn {report.out}`")

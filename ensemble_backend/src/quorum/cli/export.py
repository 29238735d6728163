# SPDX-License-Identifier: Apache-2.0
"""``quorum export delta | iceberg``: copy answers of a run into a table of a data platform."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import quorum
from quorum.cli.console import JsonOption, counted, note, print_json

app = typer.Typer(help="Copy the answers of a run into a table of a data platform.", no_args_is_help=True)

SourceArgument = Annotated[
    Path,
    typer.Argument(
        help="Parquet file that `quorum extract` wrote, or the folder of its parts.", exists=False
    ),
]
ReplaceOption = Annotated[
    bool,
    typer.Option(
        "--replace",
        help="Replace all rows of the table, of other jobs too; its earlier versions stay readable.",
    ),
]


def delta(
    source: SourceArgument,
    table: Annotated[str, typer.Argument(help="Folder or URI of the table, as s3://bucket/answers.")],
    replace: ReplaceOption = False,
    option: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE for the object store, as AWS_REGION=eu-west-1; may be repeated."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Append answers to a Delta Lake table, in one commit; needs `pip install 'quorum[delta]'`.

    A table that is missing is made. The same answers are added once, however often this is run. A job must be
    complete; where the table has other answers of it, as before --retry-failed, only --replace adds these.

    Example: `quorum export delta answers.parquet s3://lake/products/answers`
    """
    _show(quorum.export_delta(source, table, replace=replace, options=_options(option or [])), json)


def iceberg(
    source: SourceArgument,
    table: Annotated[str, typer.Argument(help="NAMESPACE.TABLE in the catalog.")],
    catalog: Annotated[str, typer.Option(help="Name of the catalog in .pyiceberg.yaml.")] = "default",
    replace: ReplaceOption = False,
    option: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE of the catalog, as uri=https://catalog.example; may be repeated."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Append answers to an Apache Iceberg table, in one commit; needs `pip install 'quorum[iceberg]'`.

    A table that is missing is made. The same answers are added once, however often this is run. A job must be
    complete; where the table has other answers of it, as before --retry-failed, only --replace adds these.

    Example: `quorum export iceberg answers.parquet products.answers --catalog prod`
    """
    options = _options(option or [])
    _show(quorum.export_iceberg(source, table, catalog=catalog, replace=replace, options=options), json)


def _options(pairs: Sequence[str]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    if wrong := next((name for name, equals, _ in split if not name or not equals), None):
        raise typer.BadParameter(f"{wrong!r} has no '='; write NAME=VALUE", param_hint="--option")
    return {name: value for name, _, value in split}


def _show(report: quorum.ExportReport, json: bool) -> None:
    if json:
        print_json(report)
    elif report.written:
        note(f"{counted(report.rows, 'row')} added to {report.table}, version {report.version}")
    else:
        note(
            f"{report.table} has these {counted(report.rows, 'row')} already, since version {report.version}"
        )

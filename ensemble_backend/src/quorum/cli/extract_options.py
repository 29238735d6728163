# SPDX-License-Identifier: Apache-2.0
"""The options of ``quorum extract``, in the groups in which ``--help`` shows them."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from quorum.bulk.inputs.options import Format
from quorum.bulk.listings import ID_COLUMNS
from quorum_contract import Priority

_INPUT = "Input: detected, and said, where no option says it"
_ASK = "What is asked"
_OUTPUT = "Output"
_SERVER = "Server"
_TROUBLE = "When something fails"

FilesArgument = Annotated[
    list[str],
    typer.Argument(
        help="Files, folders, globs, addresses (s3://...), or - for standard input: CSV, TSV, JSONL or"
        " Parquet, also .gz, .bz2, .xz, .zst.",
        show_default=False,
    ),
]
TextOption = Annotated[
    str | None,
    typer.Option(
        "--text",
        help="Columns of the product text, comma-separated; default: title, text, input or name.",
        rich_help_panel=_INPUT,
    ),
]
IdOption = Annotated[
    str | None,
    typer.Option(
        "--id",
        help="Column of the product's id, which canary routing goes by and votes are joined by; default: "
        f"{', '.join(ID_COLUMNS)}, else the row number.",
        rich_help_panel=_INPUT,
    ),
]
CategoryOption = Annotated[
    str | None,
    typer.Option("--category", help="Column of the category; default: category.", rich_help_panel=_INPUT),
]
FormatOption = Annotated[
    Format | None, typer.Option("--format", help="csv, jsonl or parquet.", rich_help_panel=_INPUT)
]
EncodingOption = Annotated[
    str | None, typer.Option("--encoding", help="As in utf-8 or cp1252.", rich_help_panel=_INPUT)
]
DelimiterOption = Annotated[
    str | None,
    typer.Option("--delimiter", help="Of CSV: one character, or tab.", rich_help_panel=_INPUT),
]
QuoteOption = Annotated[
    str | None, typer.Option("--quote", help="Of CSV: one character, or none.", rich_help_panel=_INPUT)
]
AttributesOption = Annotated[
    str | None,
    typer.Option(
        "--attributes",
        "-a",
        help="Comma-separated; default: the whole catalogue. Products of a category that lacks one get n/a,"
        " and no member is asked.",
        rich_help_panel=_ASK,
    ),
]
OpenOption = Annotated[
    bool,
    typer.Option(
        "--open", help="Ask attributes outside the catalogue too, as open ones.", rich_help_panel=_ASK
    ),
]
LazyOption = Annotated[
    bool,
    typer.Option(
        "--lazy",
        help="Ask members in rows, later ones only while they can still change a value: fewer calls. Needs"
        " `lazy` in deploy.yaml.",
        rich_help_panel=_ASK,
    ),
]
ChannelOption = Annotated[
    str, typer.Option("--channel", help="quorum or quorum_canary.", rich_help_panel=_ASK)
]
CanaryShareOption = Annotated[
    str | None,
    typer.Option(
        "--canary-share",
        help="Share of the products to route to the canary: 5%, or `served` (the server's setting).",
        rich_help_panel=_ASK,
    ),
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        help="Ask this member alone and add its votes to --votes; may be repeated.",
        rich_help_panel=_ASK,
    ),
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Write nothing; estimate calls, tokens, cost and time, from a few listings.",
        rich_help_panel=_ASK,
    ),
]
OutOption = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        help="Answers: .csv, .jsonl or .parquet; or a folder, for a file for each part.",
        rich_help_panel=_OUTPUT,
    ),
]
VotesOption = Annotated[
    str | None,
    typer.Option(
        "--votes", help="Every vote, for `quorum learn`: .jsonl or .parquet.", rich_help_panel=_OUTPUT
    ),
]
EscapeOption = Annotated[
    bool,
    typer.Option(
        "--escape/--no-escape",
        help="In CSV, put an apostrophe in front of cells that start with = + - @, a tab or a carriage"
        " return, which a spreadsheet would run as formulas, and replace control characters.",
        rich_help_panel=_OUTPUT,
    ),
]
PartRowsOption = Annotated[
    int,
    typer.Option("--part-rows", min=1, help="Rows that are committed together.", rich_help_panel=_OUTPUT),
]
ForceOption = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Replace files of --out and --votes that are not of this job.",
        rich_help_panel=_OUTPUT,
    ),
]
JobOption = Annotated[
    str | None,
    typer.Option(
        "--job", help="Folder of the job; default: OUT.job, without --out VOTES.job.", rich_help_panel=_OUTPUT
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        "--servers",
        help="host:port, or several with commas; default: the local server, else deploy.yaml.",
        rich_help_panel=_SERVER,
    ),
]
EngineOption = Annotated[
    Literal["local", "ray"],
    typer.Option(
        "--engine",
        help="local: this process asks; ray: the nodes of a Ray cluster do (`pip install 'quorum[ray]'`).",
        rich_help_panel=_SERVER,
    ),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        help="host:port of the cluster; default: RAY_ADDRESS, else a new one on this machine.",
        rich_help_panel=_SERVER,
    ),
]
ConcurrencyOption = Annotated[
    str,
    typer.Option(
        "--concurrency",
        help="Requests in flight, with --engine ray of each node; auto: as many as the server answers best.",
        rich_help_panel=_SERVER,
    ),
]
PriorityOption = Annotated[
    Priority,
    typer.Option(
        "--priority", help="bulk makes room for other callers; interactive does not.", rich_help_panel=_SERVER
    ),
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", help="Seconds per listing.", rich_help_panel=_SERVER)
]
PatienceOption = Annotated[
    str,
    typer.Option(
        "--patience",
        help="How long to wait for a server that is away, full or starting: 90s, 10m, 2h.",
        rich_help_panel=_TROUBLE,
    ),
]
RetryFailedOption = Annotated[
    bool,
    typer.Option(
        "--retry-failed",
        help="Ask the rows of the job that failed, or that no member answered, once more.",
        rich_help_panel=_TROUBLE,
    ),
]
AcceptNewWeightsOption = Annotated[
    bool,
    typer.Option(
        "--accept-new-weights",
        help="Go on where other weights decide than before; each row has its version.",
        rich_help_panel=_TROUBLE,
    ),
]
MaxBadOption = Annotated[
    str,
    typer.Option(
        "--max-bad",
        help="Rows that may be bad, such as 100 or 1%; more end the run. They are listed with their reason.",
        rich_help_panel=_TROUBLE,
    ),
]
ProgressEveryOption = Annotated[
    str,
    typer.Option(
        "--progress-every",
        help="Without a terminal: time between two lines of progress; 0: none.",
        rich_help_panel=_TROUBLE,
    ),
]

# SPDX-License-Identifier: Apache-2.0
"""``quorum recommend``: ask the running server for keyphrases for an item, or for a file of items."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

import quorum
from quorum.bulk.listings import ID_COLUMNS
from quorum.cli.console import DEPLOY, DeployOption, JsonOption, ProgressBar, new_table, note, out, print_json
from quorum.cli.options import UrlOption, parse_canary_share, parse_wait
from quorum.cli.signals import terminated_as_interrupted
from quorum_client import Recommendation
from quorum_contract import BULK, RECOMMEND, Priority

_INTERRUPTED = 130


TextArgument = Annotated[
    str, typer.Argument(help="Title and description of the item; leave it out with --items.")
]
CategoryOption = Annotated[
    str, typer.Option(help="Leaf category of the item: only keyphrases of it, or of none.")
]
MinScoreOption = Annotated[
    float | None, typer.Option(help="Lowest score of a keyphrase, from -1 to 1; default: any.")
]
ItemsOption = Annotated[
    Path | None,
    typer.Option(help="CSV, JSONL or Parquet with a text column (title, text, input or name)."),
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="With --items: CSV (a row per keyphrase) or JSONL (a line per item)."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace --out if it exists.")]
TextColumnOption = Annotated[str | None, typer.Option("--text", help="Column with the item's text.")]
IdColumnOption = Annotated[
    str | None,
    typer.Option(
        "--id",
        help="Column with the item's id, which canary routing goes by;"
        f" default: {', '.join(ID_COLUMNS)}, else the row number.",
    ),
]
ChannelOption = Annotated[
    str | None, typer.Option(help="quorum_recommend (default) or quorum_recommend_canary.")
]
CanaryShareOption = Annotated[
    str | None,
    typer.Option(help="With --items: share of them for the canary: 5%, or `served` (the server's setting)."),
]
ConcurrencyOption = Annotated[int, typer.Option(min=1, help="With --items: requests in flight.")]
EscapeOption = Annotated[
    bool,
    typer.Option(help="In CSV, make cells harmless to spreadsheets, as `quorum extract` does."),
]
PriorityOption = Annotated[
    Priority, typer.Option(help="With --items: bulk makes room for other callers; interactive does not.")
]
PatienceOption = Annotated[
    str,
    typer.Option("--patience", help="With --items: how long to wait for a server that is away: 90s, 10m."),
]


def recommend(
    text: TextArgument = "",
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many keyphrases, 1 to 100.")] = 20,
    category: CategoryOption = "",
    min_score: MinScoreOption = None,
    items: ItemsOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    text_column: TextColumnOption = None,
    id_column: IdColumnOption = None,
    channel: ChannelOption = None,
    canary_share: CanaryShareOption = None,
    concurrency: ConcurrencyOption = 16,
    url: UrlOption = None,
    timeout: Annotated[float, typer.Option(help="Seconds per item.")] = 30.0,
    escape: EscapeOption = True,
    priority: PriorityOption = BULK,
    patience: PatienceOption = "60s",
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Recommend keyphrases for an item, the best first, by the published retriever.

    The score is the cosine of item and keyphrase, no probability. Keyphrases that a blocklist has, that the
    category excludes or that say the same as a better one are left out.

    With --items: for every item of a file, in its order; an item that fails is marked. Exit code 1 when one
    failed, 130 after Ctrl-C or SIGTERM; answers so far are written.

    Example: `quorum recommend "Velmora trail running shoes, navy, size 42, for men" -k 10`

    Example: `quorum recommend --items items.parquet --out keyphrases.csv --min-score 0.5`
    """
    if (items is None) == (not text):
        raise typer.BadParameter("give the text of an item, or --items with a file", param_hint="TEXT")
    if (items is None) != (output is None):
        raise typer.BadParameter("--items and --out go together", param_hint="--out")
    deployment = quorum.load_deployment(deploy)
    if items is None or output is None:
        result = quorum.recommend(
            deployment, text, k, category=category, min_score=min_score, channel=channel or RECOMMEND,
            url=url, timeout_s=timeout,
        )  # fmt: skip
        print_json(quorum.recommendation_json(result)) if json else _show(result)
        return
    options = quorum.RecommendOptions(
        out=output, k=k, min_score=min_score, text_column=text_column, id_column=id_column, channel=channel,
        force=force, canary_share=parse_canary_share(canary_share), concurrency=concurrency, url=url,
        timeout_s=timeout, escaped=escape, priority=priority, away_s=parse_wait("--patience", patience),
    )  # fmt: skip
    _recommend_each(deployment, items, options, json)


def _recommend_each(
    deployment: quorum.Deployment, items: Path, options: quorum.RecommendOptions, json: bool
) -> None:
    with terminated_as_interrupted(), ProgressBar("recommend") as bar:
        report = quorum.recommend_items(deployment, items, options, progress=bar, note=note)
    print_json(report) if json else _show_report(report)
    if report.ended == "interrupted":
        raise typer.Exit(_INTERRUPTED)
    if report.failed or report.ended != "complete":
        raise typer.Exit(1)


def _show(result: Recommendation) -> None:
    table = new_table("keyphrase", "score")
    for keyphrase in result.keyphrases:
        # As Text: keyphrases may hold brackets, which a string would lose as markup.
        table.add_row(Text(keyphrase.text), f"{keyphrase.score:.3f}")
    out.print(table)
    none = "" if result.keyphrases else "no keyphrase is left; try without --category and --min-score; "
    note(f"{none}retriever version {result.version}, {result.latency_s * 1e3:.0f} ms")


def _show_report(report: quorum.RecommendReport) -> None:
    left = f", {report.left} left" if report.left else ""
    note(
        f"{report.answered} answered with {report.keyphrases} keyphrases, {report.empty} of them with none,"
        f" {report.failed} failed{left}; wrote {report.out}"
    )
    for code, (count, first) in report.errors.items():
        note(f"{count} failed with {code}, the first: {first}")
    if report.ended != "complete":
        note(f"{report.ended}: the first {report.answered + report.failed} items are written")

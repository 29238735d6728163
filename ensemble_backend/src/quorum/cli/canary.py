# SPDX-License-Identifier: Apache-2.0
"""``quorum canary``: try a version on a share of the products or items, and compare it with stable."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import quorum
from quorum.cli.comparison import show, words
from quorum.cli.console import DEPLOY, CommandError, DeployOption, JsonOption, ProgressBar, note, print_json
from quorum.cli.options import AttributesOption, ReportOption, UrlOption, names_in, parse_share
from quorum.cli.rollout import DryRunOption, RetrieverOption, VersionArgument, moved, show_change
from quorum.reports.figures import points_in_words
from quorum_contract import CANARY, RECOMMEND_CANARY

# Parameter -> option.
_OF_WEIGHTS = {
    "replay": "--replay",
    "auto_promote": "--auto-promote",
    "auto_rollback": "--auto-rollback",
    "attributes": "--attributes",
    "top": "--top",
    "page": "--report",
}
_OF_RETRIEVER = {"judged": "--judged", "k": "-k"}
EXIT_CODES = {"promote": 0, "keep watching": 3, "roll back": 4}


class _NumberFirst(TyperGroup):
    """``quorum canary 3`` is ``quorum canary set 3``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the omitted ``set``."""
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["set", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_NumberFirst,
    no_args_is_help=True,
    help="Try a version on some products: `quorum canary 3 --share 5%`, `canary report`, `canary off`.",
)


def set_(
    version: VersionArgument,
    share: Annotated[
        str, typer.Option(help="Share of the products, or items, that clients route to it: 5% or 0.05.")
    ] = "0%",
    retriever: RetrieverOption = False,
    deploy: DeployOption = DEPLOY,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Let the canary channel answer with a version, for a share of the products (`quorum canary N`).

    With --retriever: for a share of the items for which keyphrases are recommended.

    Clients made with `canary_share="served"` read the share from every answer and route by product id, the
    same product always to the same channel. Without `--share` only callers that name the channel get it.

    Example: `quorum canary 3 --share 5%`, then `quorum canary report votes.jsonl`

    Example: `quorum canary 2 --retriever --share 5%`
    """
    wanted = parse_share(share)
    spec = quorum.load_deployment(deploy)
    change = quorum.canary(spec, version, wanted, retriever=retriever, dry_run=dry_run)
    routed = f"{100 * wanted:.4g} % of the {'items' if retriever else 'products'}"
    text = f"{moved(_canary_of(retriever), change)}; {routed} are routed to it"
    show_change(change, json, text)


def off(
    retriever: RetrieverOption = False,
    deploy: DeployOption = DEPLOY,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """End the canary: no product is routed to it, and its channel answers with the stable version.

    Example: `quorum canary off`

    Example: `quorum canary off --retriever`
    """
    change = quorum.end_canary(quorum.load_deployment(deploy), retriever=retriever, dry_run=dry_run)
    show_change(change, json, moved(_canary_of(retriever), change))


def _canary_of(retriever: bool) -> str:
    return RECOMMEND_CANARY if retriever else CANARY


FileArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="VOTES|ITEMS",
        help="Recorded votes, as `quorum extract --votes` writes them; with --retriever, items.",
    ),
]
ReplayOption = Annotated[
    Path | None, typer.Option(help="Ask both channels about these listings (CSV, JSONL or Parquet) instead.")
]
AutoPromoteOption = Annotated[
    bool, typer.Option("--auto-promote", help="Promote the canary if the rules say so.")
]
AutoRollbackOption = Annotated[
    bool, typer.Option("--auto-rollback", help="End the canary if the rules say so.")
]
TextColumnOption = Annotated[
    str | None, typer.Option("--text", help="Columns of the product text, with commas.")
]
TopOption = Annotated[int, typer.Option(min=0, help="How many of the most frequent differences.")]
JudgedOption = Annotated[
    Path | None, typer.Option(help="With --retriever: write the judged pairs here, to train on.")
]
KOption = Annotated[int, typer.Option("-k", min=1, max=100, help="With --retriever: keyphrases an item.")]


def report(
    ctx: typer.Context,
    file: FileArgument = None,
    replay: ReplayOption = None,
    auto_promote: AutoPromoteOption = False,
    auto_rollback: AutoRollbackOption = False,
    attributes: AttributesOption = None,
    text_column: TextColumnOption = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Listings in flight.")] = 8,
    top: TopOption = 10,
    retriever: RetrieverOption = False,
    judged: JudgedOption = None,
    k: KOption = 10,
    page: ReportOption = None,
    url: UrlOption = None,
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Compare the canary with stable on the same products, and judge it by the rules in `rollout.canary`.

    From recorded votes of either channel: both have the same members, so each cell is decided with both
    versions of the weights; latencies and fall-backs come from the file. Or by `--replay`, which asks both
    channels about every listing. Gold labels in the file show which one is right; without them the report
    only measures how much changes. Labels that the weights were learned from do not decide.

    With `--auto-promote` or `--auto-rollback` the exit code is 0 for promote, 3 for keep watching, 4 for roll
    back; 1 is an error.

    With --retriever both channels of the retriever are asked about a file of items (CSV, JSONL or Parquet, an
    id a row). Keyphrases that only one of the versions recommends are judged as by `quorum judge`: this
    deployment's own ensemble is asked the `default` question. What both recommend needs no judgement.
    Precision of the k best differs by that, with an interval over the items.

    Example: `quorum canary report votes.jsonl --auto-promote --auto-rollback --report canary.html`

    Example: `quorum canary report items.jsonl --retriever --judged judged.parquet`
    """
    _refuse(ctx, _OF_WEIGHTS if retriever else _OF_RETRIEVER, retriever)
    if retriever:
        if file is None:
            raise CommandError(
                "--retriever needs a file of items: `quorum canary report items.jsonl --retriever`"
            )
        wanted = quorum.RetrieverCanaryOptions(
            items=file,
            judged=judged,
            k=k,
            text_column=names_in(text_column),
            concurrency=concurrency,
            url=url,
        )
        _report_retriever(quorum.load_deployment(deploy), wanted, json)
        return
    options = quorum.CanaryOptions(
        votes=file, replay=replay, promote=auto_promote, roll_back=auto_rollback,
        attributes=names_in(attributes), text_column=names_in(text_column),
        concurrency=concurrency, top=top, url=url,
    )  # fmt: skip
    with ProgressBar("replay") as bar:
        result = quorum.canary_report(
            quorum.load_deployment(deploy), options, report=page, progress=bar, note=note
        )
    if json:
        print_json(result)
    else:
        show(result.comparison)
        note(words(result.comparison, result.done))
        if page:
            note(f"report: {page.resolve()}")
    if auto_promote or auto_rollback:
        raise typer.Exit(EXIT_CODES[result.comparison.verdict.action])


def _refuse(ctx: typer.Context, others: Mapping[str, str], retriever: bool) -> None:
    """Refuse options that were given, and are of the other kind of report."""
    for name, option in others.items():
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            kind = "without" if retriever else "with"
            raise CommandError(f"{option} is for `canary report` {kind} --retriever; leave it out")


def _report_retriever(spec: quorum.Deployment, options: quorum.RetrieverCanaryOptions, json: bool) -> None:
    """Print how the retriever's canary compares with its stable version."""
    with ProgressBar("judging") as bar:
        found = quorum.retriever_canary_report(spec, options, progress=bar, note=note)
    if json:
        print_json(found)
        return
    difference = found.difference
    note(
        f"precision@{found.k} of version {found.canary_version} less that of version {found.stable_version}: "
        f"{points_in_words(difference)} (95 % interval, {found.items} items, of which "
        f"{found.differ} get other keyphrases): {found.verdict}"
    )
    labels = (
        f"only {side} recommends: {100 * label:.0f} % relevant"
        for side, label in (("stable", found.only_stable), ("canary", found.only_canary))
        if label is not None
    )
    note(f"judged {found.judged} of {found.disputed} keyphrases; {'; '.join(labels)}")
    if options.judged:
        note(f"wrote {options.judged}")

# SPDX-License-Identifier: Apache-2.0
"""``quorum canary``: try a version on a share of the products, and compare it with stable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import quorum
from quorum.cli.comparison import show, words
from quorum.cli.console import DEPLOY, DeployOption, JsonOption, ProgressBar, note, print_json
from quorum.cli.options import AttributesOption, UrlOption, names_in, parse_share
from quorum.cli.rollout import DryRunOption, RetrieverOption, VersionArgument, moved, show_change
from quorum_contract import CANARY, RECOMMEND_CANARY

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
        str, typer.Option(help="Share of the products that clients route to it: 5% or 0.05.")
    ] = "0%",
    retriever: RetrieverOption = False,
    deploy: DeployOption = DEPLOY,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Let the canary channel answer with a version, for a share of the products (`quorum canary N`).

    Clients made with `canary_share="served"` read the share from every answer and route by product id, the
    same product always to the same channel. Without `--share` only callers that name the channel get it.

    Example: `quorum canary 3 --share 5%`, then `quorum canary report votes.jsonl`

    Example: `quorum canary 2 --retriever --share 5%`
    """
    wanted = parse_share(share)
    spec = quorum.load_deployment(deploy)
    change = quorum.canary(spec, version, wanted, retriever=retriever, dry_run=dry_run)
    text = f"{moved(_canary_of(retriever), change)}; {100 * wanted:.4g} % of the products are routed to it"
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


def report(
    votes: Annotated[
        Path | None, typer.Argument(help="Recorded votes, as `quorum extract --votes` writes them.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(help="Ask both channels about these listings (CSV or JSONL) instead.")
    ] = None,
    auto_promote: Annotated[
        bool, typer.Option("--auto-promote", help="Promote the canary if the rules say so.")
    ] = False,
    auto_rollback: Annotated[
        bool, typer.Option("--auto-rollback", help="End the canary if the rules say so.")
    ] = False,
    attributes: AttributesOption = None,
    text_column: Annotated[str | None, typer.Option(help="Column with the product text.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Listings in flight.")] = 8,
    top: Annotated[int, typer.Option(min=0, help="How many of the most frequent differences.")] = 10,
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

    Example: `quorum canary report votes.jsonl --auto-promote --auto-rollback`
    """
    options = quorum.CanaryOptions(
        votes=votes,
        replay=replay,
        promote=auto_promote,
        roll_back=auto_rollback,
        attributes=names_in(attributes),
        text_column=text_column,
        concurrency=concurrency,
        top=top,
        url=url,
    )
    with ProgressBar("replay") as bar:
        result = quorum.canary_report(quorum.load_deployment(deploy), options, progress=bar, note=note)
    if json:
        print_json(result)
    else:
        show(result.comparison)
        note(words(result.comparison, result.done))
    if auto_promote or auto_rollback:
        raise typer.Exit(EXIT_CODES[result.comparison.verdict.action])

# SPDX-License-Identifier: Apache-2.0
"""``quorum canary``: a version beside the running one, a share of the products, and what evidence says."""

from __future__ import annotations

import asyncio
import json as jsonlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from quorum.cli.ask import AttributesOption, UrlOption, names_of
from quorum.cli.console import (
    DEPLOY,
    CommandError,
    DeployOption,
    JsonOption,
    friendly,
    note,
    out,
    print_json,
    progress,
    spec_of,
)
from quorum.cli.fleet import store_of
from quorum.cli.listings import Listing, gold_of, parse_share, read_listings
from quorum.cli.rollout import DryRunOption, VersionArgument, moved, open_rollout, tell
from quorum.deployment.schema import Deployment
from quorum.evaluation.canary import (
    Decided,
    Observed,
    Pair,
    Report,
    agreement_of,
    compare_channels,
    pairs_from_votes,
    taught,
)
from quorum.evaluation.stats import Estimate
from quorum.evaluation.verdict import Metric
from quorum.rollout.channels import RolloutError
from quorum.server.runfile import endpoint_of
from quorum.tasks.catalogue import Catalogue
from quorum.votes.table import read_votes
from quorum_client import Answer, AsyncClient, Extraction, QuorumError
from quorum_contract import CANARY, STABLE

EXIT_CODES = {"promote": 0, "keep watching": 3, "roll back": 4}

Asked = tuple[Listing, Extraction | QuorumError, Extraction | QuorumError]


class _NumberFirst(TyperGroup):
    """``quorum canary 3`` is ``quorum canary set 3``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the word in that is left out."""
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["set", *args]
        return super().parse_args(ctx, args)


canary = typer.Typer(
    cls=_NumberFirst,
    no_args_is_help=True,
    help="Try a version beside the running one: `quorum canary 3 --share 5%`, `canary report`, `canary off`.",
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    canary.command("set")(set_)
    canary.command()(off)
    canary.command()(report)
    app.add_typer(canary, name="canary")


@friendly
def set_(
    version: VersionArgument,
    share: Annotated[
        str, typer.Option(help="Share of the products that clients route to it: 5% or 0.05.")
    ] = "0%",
    deploy: DeployOption = DEPLOY,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Let the canary channel answer with a version, for a share of the products (`quorum canary N`).

    Clients made with `canary_share="served"` learn the share from every answer and route by product id: the
    same product always takes the same way. Without `--share` nobody is routed; who names the channel gets it.

    Example: `quorum canary 3 --share 5%`, then `quorum canary report votes.jsonl`
    """
    wanted = parse_share(share)
    with open_rollout(spec_of(deploy), dry_run) as rollout:
        change = rollout.canary(version, wanted)
    tell(change, json, f"{moved(CANARY, change)}; {100 * wanted:.4g} % of the products are routed to it")


@friendly
def off(deploy: DeployOption = DEPLOY, dry_run: DryRunOption = False, json: JsonOption = False) -> None:
    """End the canary: nobody is routed to it, and its channel answers with the stable version.

    Example: `quorum canary off`
    """
    with open_rollout(spec_of(deploy), dry_run) as rollout:
        change = rollout.end_canary()
    tell(change, json, moved(CANARY, change))


@friendly
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
    """Compare the canary with stable on the same products, and say what `rollout.canary` makes of it.

    From recorded votes, whichever channel they came by: the members are the same behind both, so each cell is
    decided with both versions of the weights. Latencies and fall-backs are those that the file recorded. Or
    by `--replay`, which asks both channels about every listing. Gold labels in the file tell which is right;
    without them only how much changes can be told. Labels that the weights were learned from do not decide:
    give others.

    With `--auto-promote` or `--auto-rollback` the exit code is 0 for promote, 3 for keep watching, 4 for roll
    back; 1 is an error.

    Example: `quorum canary report votes.jsonl --auto-promote --auto-rollback`
    """
    if (votes is None) == (replay is None):
        raise CommandError("name either a file of recorded VOTES, or --replay LISTINGS")
    spec = spec_of(deploy)
    store = store_of(spec)
    stable, tried = (store.pins()[channel] for channel in (STABLE, CANARY))
    if stable == tried:
        raise CommandError(f"both channels answer with version {stable}; begin with `quorum canary N`")
    observed: tuple[Observed, Observed] | None
    trained_on = False
    if votes is not None:
        table = read_votes(votes).of_members(spec.member_names)
        sides = store.weights(stable), store.weights(tried)
        pairs = pairs_from_votes(table, *sides)
        trained_on = any(taught(table, weights) for weights in sides)
        observed = _observed(votes, (stable, tried))
    else:
        assert replay is not None
        listings, wanted = read_listings(replay, text_column), names_of(spec, attributes)
        target = url or endpoint_of(spec).grpc_url
        asked = asyncio.run(_ask_both(target, listings, wanted, concurrency))
        pairs, observed = _replayed(asked, (stable, tried), spec.catalogue())
    found = compare_channels(pairs, (stable, tried), spec.rollout.canary, observed, top, trained_on)
    automatic = auto_promote or auto_rollback
    done = _act(spec, found, auto_promote, auto_rollback) if automatic else None
    if json:
        print_json(found.to_json() | {"done": done})
    else:
        _show(found)
        note(_words(found, done))
    if automatic:
        raise typer.Exit(EXIT_CODES[found.verdict.action])


def _act(spec: Deployment, found: Report, may_promote: bool, may_roll_back: bool) -> str | None:
    action, reason = found.verdict.action, f"canary: {found.verdict.reason}"
    promote, end = action == "promote" and may_promote, action == "roll back" and may_roll_back
    if not (promote or end):
        return None
    with open_rollout(spec, dry_run=False) as rollout:
        if promote:
            rollout.promote(found.canary_version, reason, over=found.stable_version)
        rollout.end_canary(reason, of=found.canary_version)
    return "promoted" if promote else "rolled back"


def _observed(path: Path, versions: tuple[int, int]) -> tuple[Observed, Observed] | None:
    """Latencies and fall-backs of these versions in a votes table, if whoever wrote it noted them."""
    sides = {STABLE: Observed(), CANARY: Observed()}
    wanted: dict[Any, int] = dict(zip(sides, versions, strict=True))
    for line in path.read_text("utf-8").split("\n"):
        row = jsonlib.loads(line) if line.strip() else {}
        if row.get("weights_version") != wanted.get(row.get("channel")):
            # Of an earlier canary, or of an earlier stable version.
            continue
        if row.get("fallback_from") in sides:
            sides[row["fallback_from"]].failed.add(row["product"])
        elif row.get("channel") in sides and isinstance(row.get("latency_ms"), int | float):
            sides[row["channel"]].latencies_ms[row["product"]] = float(row["latency_ms"])
    seen = any(side.latencies_ms or side.failed for side in sides.values())
    return (sides[STABLE], sides[CANARY]) if seen else None


async def _ask_both(
    url: str, listings: Sequence[Listing], attributes: Sequence[str], concurrency: int
) -> list[Asked]:
    free = asyncio.Semaphore(concurrency)

    async def ask(client: AsyncClient, listing: Listing, channel: str) -> Extraction | QuorumError:
        try:
            return await client.extract(listing.text, attributes, category=listing.category, channel=channel)
        except QuorumError as error:
            return error

    async def both(client: AsyncClient, number: int, listing: Listing) -> Asked:
        async with free:
            # In turn, so that whatever warms up or wears off favours neither.
            order = (STABLE, CANARY) if number % 2 else (CANARY, STABLE)
            answers = {channel: await ask(client, listing, channel) for channel in order}
        bar.advance(task)
        return listing, answers[STABLE], answers[CANARY]

    async with AsyncClient(url, timeout_s=60.0) as client:
        with progress() as bar:
            task = bar.add_task("replay", total=len(listings))
            return list(await asyncio.gather(*(both(client, i, one) for i, one in enumerate(listings))))


def _replayed(
    asked: Sequence[Asked], versions: tuple[int, int], catalogue: Catalogue
) -> tuple[list[Pair], tuple[Observed, Observed]]:
    observed = (Observed(), Observed())
    pairs: list[Pair] = []
    restless = 0
    for number, (listing, *answers) in enumerate(asked, 1):
        product = f"{number}:{listing.product}"
        for side, answer, version in zip(observed, answers, versions, strict=True):
            if isinstance(answer, QuorumError):
                side.failed.add(product)
                continue
            if answer.weights_version != version:
                raise RolloutError(
                    f"version {answer.weights_version} answered where {version} is pinned: the channels "
                    "changed during the replay; run it again"
                )
            side.latencies_ms[product] = answer.latency_s * 1e3
        left, right = answers
        if isinstance(left, QuorumError) or isinstance(right, QuorumError):
            continue
        for a, b in zip(left.answers, right.answers, strict=True):
            restless += a.votes != b.votes
            gold = tuple(gold_of(listing, a.attribute, catalogue))
            pairs.append(Pair(product, a.attribute, _decided(a), _decided(b), gold))
    if not pairs:
        error = next((a for _, *both in asked for a in both if isinstance(a, QuorumError)), None)
        raise CommandError(f"no listing was answered by both channels: {error}")
    if restless:
        note(f"members answered {restless} of {len(pairs)} cells differently the second time")
    return pairs, observed


def _decided(answer: Answer) -> Decided:
    agreement = agreement_of(answer.value, [vote.value for vote in answer.votes])
    return Decided(answer.value, answer.confidence, agreement)


def _show(r: Report) -> None:
    table = Table(
        "", f"stable ({r.stable_version})", f"canary ({r.canary_version})", "difference", "interval",
        title=f"{r.products} products, {r.cells} cells, {r.gold_labels} with gold"
        + (" that taught the weights" if r.trained_on else ""),
    )  # fmt: skip
    for name, metric in (("right", r.accuracy), ("agreement", r.agreement), ("confidence", r.confidence)):
        table.add_row(name, *_cells(metric))
    if r.latency:
        t = r.latency
        table.add_row(
            "p50", f"{t.stable_p50:.1f} ms", f"{t.canary_p50:.1f} ms", f"x {t.ratio.value:.2f}",
            f"x {t.ratio.low:.2f} to {t.ratio.high:.2f}",
        )  # fmt: skip
        table.add_row("p95", f"{t.stable_p95:.1f} ms", f"{t.canary_p95:.1f} ms", "", "")
    if r.asked:
        table.add_row("failed", "", f"{r.failed} of {r.asked}", "", "")
    table.add_row("decided differently", "", "", f"{r.changed.value:.1%}", _interval(r.changed, "%"))
    out.print(table)
    if r.top:
        moved_ = Table("attribute", "stable", "canary", "cells", "better", "worse", "such as")
        for c in r.top:
            stable, tried = c.stable or "(nobody)", c.canary or "(nobody)"
            counts = (str(c.cells), str(c.better), str(c.worse))
            moved_.add_row(*map(Text, (c.attribute, stable, tried, *counts, c.product)))
        out.print(moved_)


def _cells(metric: Metric | None) -> tuple[str, ...]:
    if metric is None:
        return ("no gold", "no gold", "", "")
    delta = f"{100 * metric.delta.value:+.1f} points"
    return f"{metric.stable:.1%}", f"{metric.canary:.1%}", delta, _interval(metric.delta, "")


def _interval(estimate: Estimate, unit: str) -> str:
    sign = "" if unit else "+"
    return f"{100 * estimate.low:{sign}.1f}{unit} to {100 * estimate.high:{sign}.1f}{unit}"


def _words(found: Report, done: str | None) -> str:
    verdict = found.verdict
    more = f"; about {verdict.more_products} more products would decide it" if verdict.more_products else ""
    return f"{verdict.action}: {verdict.reason}{more}" + (f" [{done}]" if done else "")

# SPDX-License-Identifier: Apache-2.0
"""``quorum publish | promote | rollback | retire | history | diff``: change versions on a live server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.padding import Padding
from rich.text import Text

import quorum
from quorum.cli.attributes import show_judgement
from quorum.cli.console import DEPLOY, DeployOption, JsonOption, new_table, note, out, print_json
from quorum_contract import RECOMMEND, RETRIEVER, STABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quorum.repository.history import Event

VersionArgument = Annotated[
    int, typer.Argument(help="A published version of the weights; with --retriever, of the retriever.")
]
RetrieverOption = Annotated[
    bool, typer.Option("--retriever", help="Of the retriever and its channels; else of the weights.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Check everything, change nothing.")]


def publish(
    content: Annotated[
        Path,
        typer.Argument(
            help="A weights.json, as `quorum learn` writes it, or a retriever, the folder of `quorum index`."
        ),
    ],
    deploy: DeployOption = DEPLOY,
    force: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Publish even if worse on held-out data; the reason is logged."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ATTRIBUTE", help="Decide this attribute as the running version does; may be repeated."
        ),
    ] = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Make weights, or a retriever, a new version on the running server. No channel changes yet.

    What it is follows from what is named: a file of weights, or the folder of a retriever. Versions of both
    have numbers of their own; the other commands mean weights, and the retriever with --retriever.

    With `rollout.heldout` in deploy.yaml (a votes table with gold), weights that answer worse there than the
    running ones, by more than `rollout.margin`, are refused. Attributes that are worse are named first; with
    `rollout.guard: per_attribute` one such is enough to refuse, and `--keep` lets the running version decide
    it as before. Attributes that changed in deploy.yaml since the weights were learned, and new ones, use the
    weights of all attributes; the command names them.

    The first version of a retriever starts the channels quorum_recommend and quorum_recommend_canary. With
    `retriever.heldout` in deploy.yaml (judged pairs) later ones are compared with the running version there,
    on this machine: one that agrees less, or finds fewer keyphrases, than `max_less_agreement` and
    `max_less_recall` allow is refused.

    Example: `quorum publish weights.json`, then `quorum canary 2`, then `quorum promote 2`

    Example: `quorum publish weights.json --keep brand`

    Example: `quorum publish retriever/`, then `quorum canary 2 --retriever`, `quorum promote 2 --retriever`
    """
    spec = quorum.load_deployment(deploy)
    change = quorum.publish(spec, content, force=force, keep=keep or (), dry_run=dry_run, note=note)
    if change.comparison and not json:
        _show_comparison(change.comparison)
    if change.kept and not json:
        note(f"decided as by the running version: {', '.join(change.kept)}")
    if change.not_calibrated and not json:
        note(
            f"confidence of {', '.join(change.not_calibrated)}: not calibrated, unlike that of the other "
            "attributes, as the running version's is not"
        )
    if change.retired and not json:
        unloads = "would unload" if change.planned else "unloaded"
        note(f"{unloads} to make room (rollout.keep_versions): {', '.join(map(str, change.retired))}")
    if change.unscored and not json:
        note(describe_missing(change.version, change.unscored))
    if change.catalogue and not json:
        note(str(change.catalogue))
    done = f"{content} is already" if change.already else f"published {content} as"
    flag = _flag(change)
    of = " of the retriever" if flag else ""
    step = f"next: `quorum promote {change.version}{flag}`"
    if change.answers:
        step = "callers are answered with it"
    elif flag and change.first:
        step = "the retriever's channels answer with it"
    show_change(change, json, f"{done} version {change.version}{of}; {step}")


def _show_comparison(comparison: quorum.Comparison | quorum.RetrieverComparison) -> None:
    """Print how a new version compares with the running one on held-out data."""
    if comparison.warning:
        note(Text(comparison.warning, "bold red"))
    if isinstance(comparison, quorum.RetrieverComparison):
        note(f"held-out judged pairs: {comparison}")
        return
    note(f"held-out votes: {comparison}")
    if comparison.remark:
        note(comparison.remark)
    for other, found in comparison.compared.items():
        show_judgement(found, "new", other.removeprefix("the ").removesuffix(" version"))


def promote(
    version: VersionArgument,
    retriever: RetrieverOption = False,
    deploy: DeployOption = DEPLOY,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Let the stable channel answer with a version: quorum, or with --retriever quorum_recommend.

    Example: `quorum promote 3`

    Example: `quorum promote 2 --retriever`
    """
    spec = quorum.load_deployment(deploy)
    change = quorum.promote(spec, version, retriever=retriever, dry_run=dry_run)
    show_change(change, json, moved(stable_of(retriever), change))


def rollback(
    retriever: RetrieverOption = False,
    deploy: DeployOption = DEPLOY,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Let the stable channel answer with the version before its last promotion.

    Example: `quorum rollback`

    Example: `quorum rollback --retriever`
    """
    change = quorum.rollback(quorum.load_deployment(deploy), retriever=retriever, dry_run=dry_run)
    show_change(change, json, moved(stable_of(retriever), change))


def retire(
    version: VersionArgument,
    retriever: RetrieverOption = False,
    deploy: DeployOption = DEPLOY,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Unload a version that no channel answers with. Its files stay on disk.

    Example: `quorum retire 1`

    Example: `quorum retire 1 --retriever`
    """
    spec = quorum.load_deployment(deploy)
    change = quorum.retire(spec, version, retriever=retriever, dry_run=dry_run)
    show_change(change, json, f"version {version} is not loaded any more")


def diff(
    old: Annotated[int, typer.Argument(help="A version on disk.")],
    new: Annotated[int, typer.Argument(help="Another version on disk.")],
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Show what two versions of the weights do differently, relative to each one's heaviest member.

    Example: `quorum diff 1 2`
    """
    changes = quorum.diff(quorum.load_deployment(deploy), old, new)
    if json:
        print_json(changes)
        return
    before, after = changes.methods
    table = new_table("attribute", *changes.members, title=f"{old} ({before}) -> {new} ({after})")
    for name, (was, now) in changes.weights.items():
        table.add_row(Text(name), *(f"{a:.2f} -> {b:.2f}" for a, b in zip(was, now, strict=True)))
    out.print(table)
    for version, kept in zip((old, new), changes.kept, strict=True):
        if kept:
            note(f"{version} keeps an earlier version's weights for {', '.join(kept)}")
    if any(changes.use_scores):
        _show_use_of_scores(changes, old, new)
    if any(changes.use_texts):
        both = (
            f"{old} and {new}" if all(changes.use_texts) else f"only {old if changes.use_texts[0] else new}"
        )
        note(f"values by the products' texts: {both}")


def _show_use_of_scores(changes: quorum.WeightsDiff, old: int, new: int) -> None:
    """Print which version weighs votes by their scores, and how much more sure votes weigh."""
    title = f"a sure vote (p={changes.SURE}) weighs more than an unsure one (p={changes.UNSURE}) by"
    table = new_table("attribute", *changes.members, title=title)
    for name, (was, now) in changes.sure_over_unsure.items():
        table.add_row(Text(name), *(f"{a:.2f} -> {b:.2f}" for a, b in zip(was, now, strict=True)))
    out.print(table)
    if all(changes.use_scores):
        note(f"{old} and {new} weigh votes by their scores")
    else:
        uses, ignores = (old, new) if changes.use_scores[0] else (new, old)
        note(f"{uses} weighs votes by their scores, {ignores} does not")
    note("the first table is for votes without a score; p: the probability that the member gave to its value")


def history(deploy: DeployOption = DEPLOY, json: JsonOption = False) -> None:
    """Show who changed what, and when (UTC); versions of weights, and of the retriever where it says so.

    Below a change: its reason, and why it was undone if it was.

    Example: `quorum history --json`
    """
    events = quorum.history(quorum.load_deployment(deploy))
    if json:
        print_json(events)
        return
    for event in events:
        _show_event(event)


def _show_event(event: Event) -> None:
    """Print when, who and what, and below, indented, what there is to say of it."""
    of = "retriever " if event.model == RETRIEVER else ""
    before = f" (before: {event.before})" if event.before else ""
    at = event.at[:19].replace("T", " ")
    out.print(
        f"{at}  {event.who}  {event.action} {of}{event.version}{before}", soft_wrap=True, highlight=False
    )
    failed = "" if event.outcome == "done" else event.outcome
    for text, style in ((event.reason, ""), (failed, "red")):
        if text:
            out.print(Padding(Text(text, style), (0, 0, 0, 4), expand=False))


def describe_missing(version: int, members: Sequence[str]) -> str:
    """Say that a version weighs members by scores that they do not give."""
    whose = "its" if len(members) == 1 else "their"
    return (
        f"version {version} weighs {', '.join(members)} by {whose} scores, which this deployment does not "
        "give: learn again"
    )


def moved(channel: str, change: quorum.Change) -> str:
    """Describe the change of a channel."""
    if change.already:
        return f"{channel} answered with version {change.version} already"
    text = f"{channel} answers with version {change.version} (before: {change.before})"
    share, ends = f"{100 * change.canary_share:.4g} %", f"`quorum canary off{_flag(change)}` ends it"
    if change.canary is not None:
        return f"{text}. The canary goes on: {share} of the products get version {change.canary}; {ends}"
    if change.canary_share:
        return f"{text}. The canary has the same version now and goes on for {share} of the products; {ends}"
    return text


def stable_of(retriever: bool) -> str:
    """The channel that callers of the weights, or of the retriever, ask."""
    return RECOMMEND if retriever else STABLE


def _flag(change: quorum.Change) -> str:
    """The option, after a space, that names the kind of a change's version."""
    return " --retriever" if change.model == RETRIEVER else ""


def show_change(change: quorum.Change, json: bool, text: str) -> None:
    """Print what a command did, or would do."""
    if json:
        print_json(change)
    else:
        note(f"would be done: {text}" if change.planned else text)

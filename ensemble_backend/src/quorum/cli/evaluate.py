# SPDX-License-Identifier: Apache-2.0
"""``quorum evaluate``: cross-validate members and methods, or judge given weights, on labelled votes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column
from rich.text import Text

import quorum
from quorum.cli.attributes import show_judgement
from quorum.cli.console import (
    DEPLOY,
    CommandError,
    DeployOption,
    JsonOption,
    err,
    new_table,
    note,
    out,
    print_json,
)
from quorum.cli.early import show_early
from quorum.cli.figures import Row, show_figures
from quorum.cli.given_weights import show_weights
from quorum.cli.options import ReportOption, load_if_any, names_in
from quorum.cli.tasks import show_tasks
from quorum.reports.figures import bracketed, percent, percent_interval, points

if TYPE_CHECKING:
    from quorum.evaluation.member_scores import ScoresResult
    from quorum.evaluation.pareto import CostTable


VotesArgument = Annotated[Path, typer.Argument(help="A votes table (JSONL or Parquet) with gold.")]
MethodsOption = Annotated[str, typer.Option(help="Comma-separated, or all.")]
FoldsOption = Annotated[int, typer.Option(min=2, help="Parts that the products are split into.")]
GoldLabelsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Learn from only this many labels per fold; default: all others."),
]
DrawsOption = Annotated[
    int | None,
    typer.Option(min=1, help="How often to draw those labels; default: 20 with --gold-labels, else 1."),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Of folds, labels and intervals.")]
WeightsOption = Annotated[
    Path | None, typer.Option(help="Judge these weights (JSON) instead; nothing is learned.")
]
LeaveOutTunedOption = Annotated[
    bool,
    typer.Option("--leave-out-tuned", help="Leave out rows that `quorum tune` tuned a member on."),
]
LazyOption = Annotated[bool, typer.Option("--lazy", help="Also show what asking members in rows would save.")]


def evaluate(
    votes: VotesArgument,
    methods: MethodsOption = "all",
    folds: FoldsOption = 5,
    gold_labels: GoldLabelsOption = None,
    draws: DrawsOption = None,
    seed: SeedOption = 0,
    weights: WeightsOption = None,
    leave_out_tuned: LeaveOutTunedOption = False,
    lazy: LazyOption = False,
    report: ReportOption = None,
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Compare members, majority and every way to learn, on labels that they did not see.

    Attributes on which a method is worse than majority, or than what is live, are named first. Then comes,
    per kind of answer and by its measure (accuracy; macro-F1 of labels; strict F1 of spans; ROUGE of texts),
    what a method must be better than: the best single member, encoders alone, majority. A table shows the
    best method by attribute.

    Where prices are known, by `price` of members in deploy.yaml or as the votes recorded what they cost, it
    shows accuracy against cost: members alone, votes of all, asking in turn until no vote can change an
    answer, and the cheapest member alone where it is sure.

    Where votes have scores, it also shows whether members know when they are right, and what scores bring.

    With `--gold-labels N` it draws N labels 20 times: the intervals, and the range of what N labels of yours
    may give, hold what the choice of the labels does. The report's learning curve gets a band.

    With `--lazy` it shows what channels that ask members in rows would save: questions (a member asked about
    a cell) and calls (a member asked about a product), with the same answers, and with a few other ones at a
    flip risk.

    With `--weights` it judges those weights on the labels instead, over all and by attribute; nothing is
    learned, and no deployment is needed.

    Example: `quorum evaluate votes.jsonl --gold-labels 200 --report evaluation.html`

    Example: `quorum evaluate new-votes.jsonl --weights weights.json`
    """
    if weights:
        if methods != "all" or folds != 5 or gold_labels is not None or draws or report or lazy:
            raise CommandError(
                "--weights learns nothing: leave out --methods, --folds, --gold-labels, --draws, "
                "--lazy and --report, or leave out --weights"
            )
        _judge(votes, weights, deploy, seed, leave_out_tuned, json)
        return
    if draws and draws > 1 and gold_labels is None and not report:
        raise CommandError("--draws draws labels to learn from: say how many by --gold-labels N")
    options = quorum.EvaluateOptions(
        folds=folds, gold_labels=gold_labels, seed=seed, draws=draws, leave_out_tuned=leave_out_tuned,
        lazy=lazy,
    )  # fmt: skip
    if methods != "all":
        options = replace(options, methods=names_in(methods) or ())
    _compare(votes, deploy, options, report, json)


def _compare(
    votes: Path, deploy: Path, options: quorum.EvaluateOptions, report: Path | None, json: bool
) -> None:
    """Compare members and methods and print the figures."""
    with err.status(f"evaluating {', '.join(options.methods)} on {votes}"):
        deployment = load_if_any(deploy)
        result = quorum.evaluate(votes, deployment, options, report=report)
    if json:
        print_json(result)
        return
    _show(result, lazy=options.lazy, currency=deployment.currency if deployment else "")
    if report:
        note(f"report: {report.resolve()}")


def _judge(votes: Path, weights: Path, deploy: Path, seed: int, leave_out_tuned: bool, json: bool) -> None:
    """Judge given weights and print how they do."""
    judged = quorum.evaluate_weights(
        votes, weights, _load_live(deploy), seed=seed, leave_out_tuned=leave_out_tuned, note=note
    )
    print_json(judged) if json else show_weights(judged, weights.name)


def _load_live(deploy: Path) -> quorum.Deployment | None:
    """Load the deployment to compare with; None if there is none, or it cannot be used, as none is needed."""
    try:
        return load_if_any(deploy)
    except quorum.QuorumError as error:
        if deploy != DEPLOY:
            raise
        note(f"nothing is compared with what is live: {error}")
        return None


def _show(result: quorum.Evaluation, *, lazy: bool, currency: str) -> None:
    if result.warning:
        out.print(Text(result.warning, "bold red"), soft_wrap=True)
    show_tasks(result.tasks)
    heads = ("right [95 %]", "to best member", "F1", "ECE", "right at\n80 %", "not\nasked")
    members: list[Row] = [
        (Text(name), [percent_interval(accuracy)]) for name, accuracy in result.members.items()
    ]
    methods: list[Row] = []
    for name, m in result.methods.items():
        to_best = bracketed(*map(points, (m.delta_best_member, *m.delta_best_member_ci95)))
        rest = [percent(share) for share in (m.f1, m.ece, m.accuracy_at_80, m.questions_saved)]
        figures = [bracketed(*map(percent, (m.accuracy, *m.ci95))), to_best, *rest]
        methods.append((Text(result.label(name)), figures))
    show_figures("%", heads, members, methods)
    note(
        "F1: micro. Right at 80 %: on the surest 80 % of cells. Questions saved: of one per member and "
        "cell, by asking in turn until settled."
    )
    for other, found in result.methods[result.best_method].compared.items():
        show_judgement(found, result.label(result.best_method), other)
    if result.scores:
        _show_scores(result.scores)
    if result.early:
        show_early(result.early)
    elif lazy:
        note(
            "asking in rows is not judged: that takes single values of two members, of as many products as "
            "folds, recorded without --lazy"
        )
    if result.costs:
        _show_costs(result.costs, currency)
    note(
        f"{result.gold_labels} gold labels of {result.products} products, {result.folds} folds, "
        f"{result.gold_per_fold:.0f} labels learned from in each; {result.na_gold:.0%} of the gold is n/a"
    )
    for line in result.notes:
        note(line)
    for bloc in result.correlation.blocs:
        note(f"members that repeat each other's errors: {', '.join(bloc)}")
    if result.verdict:
        note(result.verdict)


def _show_costs(costs: CostTable, currency: str) -> None:
    """Print accuracy against cost; rows with the same figures as one before them are left out."""
    of = f"1000 answers, {currency}" if currency else "1000 answers"
    heads = ("right", "calls per\nanswer", f"cost of\n{of}", "")
    rows: dict[tuple[str, ...], Row] = {}
    for row in costs.rows:
        figures = (percent(row.accuracy), f"{row.calls:.2f}", f"{row.cost:.4g}", "*" * row.is_pareto)
        rows.setdefault(figures, (Text(row.name, "bold" if row.is_pareto else ""), figures))
    show_figures("%", heads, [*rows.values()])
    note("*: no other row is as cheap and as often right. An answer is about all attributes of a product.")


def _show_scores(scores: ScoresResult) -> None:
    """Print whether members know when they are right."""
    heads = ("AUROC", "ECE", "scored", "said:right, in fifths")
    table = new_table("%", *(Column(head, no_wrap=True) for head in heads))
    for name, m in scores.members.items():
        bins = " ".join(f"{100 * b.confidence:.0f}:{100 * b.accuracy:.0f}" for b in m.bins(5))
        figures = (percent(share) for share in (m.auroc, m.ece, m.scored))
        table.add_row(Text(name), *figures, bins)
    out.print(table)
    note("AUROC: of a right and a wrong vote of a member, how often the right one has the higher score.")
    note("Said:right: the probability that the member gave to its votes, and how often they are right.")

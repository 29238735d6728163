# SPDX-License-Identifier: Apache-2.0
"""``quorum learn | drift``: learn weights from recorded votes, and find members that changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

import quorum
from quorum.cli.attributes import show_judgement
from quorum.cli.console import DEPLOY, DeployOption, JsonOption, note, print_json
from quorum.cli.figures import Row, show_figures
from quorum.cli.options import ReportOption, load_if_any
from quorum.cli.signals import terminated_as_interrupted
from quorum.reports.figures import NONE, bracketed, percent, percent_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quorum.evaluation.drift_scores import ScoreDrift
    from quorum.evaluation.learned import LearnedResult


VotesArgument = Annotated[
    Path, typer.Argument(help="A votes table (JSONL or Parquet), as `quorum extract --votes` writes it.")
]
TargetOption = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", help="Where the weights go; default: the file of --update, else weights.json."
    ),
]
MethodOption = Annotated[str, typer.Option(help="auto, majority, iwmv, em or loglinear.")]
GoldLabelsOption = Annotated[
    int | None,
    typer.Option(min=0, help="Use only this many gold labels, drawn with --seed; 0 uses none."),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Draws the gold labels.")]
UpdateOption = Annotated[
    Path | None, typer.Option("--update", help="Weights learned so far: add these votes to theirs.")
]
ForgettingOption = Annotated[
    float, typer.Option(help="With --update: what earlier votes count now, above 0 and at most 1.")
]
NoScoresOption = Annotated[bool, typer.Option("--no-scores", help="Learn as if no vote had a score.")]
NoEvidenceOption = Annotated[
    bool, typer.Option("--no-evidence", help="Learn from votes alone, as if products had no text.")
]
NaBiasOption = Annotated[
    float,
    typer.Option(help="majority, em: what n/a counts besides its votes, in mean weights; usual: -1."),
]
JudgeOption = Annotated[
    bool,
    typer.Option("--judge/--no-judge", help="Show by attribute what changes, on labels that did not teach."),
]
LeaveOutTunedOption = Annotated[
    bool,
    typer.Option("--leave-out-tuned", help="Leave out rows that `quorum tune` tuned a member on."),
]
LazyOption = Annotated[
    bool | None,
    typer.Option(
        "--lazy/--no-lazy",
        help="Also learn when asking may stop early; default: if deploy.yaml has `lazy`.",
    ),
]


def learn(
    votes: VotesArgument,
    target: TargetOption = None,
    method: MethodOption = "auto",
    gold_labels: GoldLabelsOption = None,
    seed: SeedOption = 0,
    before: UpdateOption = None,
    forgetting: ForgettingOption = 1.0,
    no_scores: NoScoresOption = False,
    no_evidence: NoEvidenceOption = False,
    na_bias: NaBiasOption = 0.0,
    judge: JudgeOption = True,
    leave_out_tuned: LeaveOutTunedOption = False,
    lazy: LazyOption = None,
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Learn how much each member's vote should count.

    Without gold labels the members' agreement teaches (`em`) where it can be trusted, else all count the same
    (`majority`), and a line says why; with 50 labels or more, these teach (`loglinear`).
    Where votes have scores, both also learn what these are worth, unless --no-scores. `loglinear` gives an
    attribute weights of its own where these gain, and learns what the products' texts say about values,
    unless --no-evidence.
    The statistic of the votes is kept next to the weights (`weights.state.json`), so that `--update` can add
    a day; without --out, the updated weights replace those before.
    Where there are labels, a table shows by attribute what the weights change against majority, and against
    what is live, on labels that did not teach them; attributes that become worse are named first. It learns
    five more times, so beyond 1500 labels that is left to `quorum evaluate`.
    Where deploy.yaml has `lazy`, or with --lazy, it also learns from the votes, without gold, at which chance
    of a change asking may stop for a flip risk, and how sure an answer of some members is. A line names flip
    risks that these votes do not support.

    Example: `quorum learn votes.jsonl --out weights.json && quorum publish weights.json`

    Example: `quorum learn tuesday.jsonl --update weights.json --forgetting 0.98`
    """
    options = quorum.LearnOptions(
        method=method, gold_labels=gold_labels, seed=seed, update=before, forgetting=forgetting,
        scores=not no_scores, evidence=not no_evidence, na_bias=na_bias, judge=judge,
        leave_out_tuned=leave_out_tuned, lazy=lazy,
    )  # fmt: skip
    target = target or before or Path("weights.json")
    with terminated_as_interrupted():
        report = quorum.learn(votes, load_if_any(deploy), options, out=target)
    print_json(report) if json else _show_learned(report, target)


def _show_learned(report: quorum.LearnReport, target: Path) -> None:
    if report.judged and report.judged.warning:
        note(Text(report.judged.warning, "bold red"))
    if report.tuned:
        for warning in report.tuned.warnings:
            note(Text(warning, "bold red"))
        if report.tuned.remark:
            note(report.tuned.remark)
    if report.drift:
        note(report.drift.verdict)
    for remark in report.remarks:
        note(remark)
    pairs = zip(report.weights.members, report.weights.default.weights, strict=True)
    bias = report.weights.settings.get("na_bias")
    # Methods that learn such a bias say only whether they do.
    also = "" if not bias or bias is True else f"; n/a counts {bias:+g} mean weights besides its votes"
    note(f"{report.weights.method}: {', '.join(f'{name} {value:.2f}' for name, value in pairs)}{also}")
    if report.judged:
        _show_judged(report.judged)
    note(f"wrote {target}; next: `quorum publish {target}`")


def _show_judged(judged: LearnedResult) -> None:
    own, plain = judged.accuracy, judged.majority
    for other, found in judged.compared.items():
        show_judgement(found, "learned", other)
    note(
        f"{judged.unit}, %: {percent_interval(own)}, majority {percent_interval(plain)}; "
        f"{judged.how} ({judged.gold_labels} labels of "
        f"{judged.products} products)"
    )


def drift(
    weights: Annotated[Path, typer.Argument(help="Weights with their state file next to them.")],
    votes: Annotated[Path, typer.Argument(help="A day's votes that the weights have not seen.")],
    alarm: Annotated[
        float, typer.Option(help="How often a day without change may raise one, at most.")
    ] = 0.01,
    report: ReportOption = None,
    json: JsonOption = False,
) -> None:
    """Name members that do not vote as they did: swapped, broken, or asked other things. Exit code 1 if any.

    Where their votes have scores, also members that are surer, or less sure, of their votes than before.

    Example: `quorum drift weights.json tuesday.jsonl --report drift.html`
    """
    found = quorum.drift(weights, votes, alarm=alarm, report=report, note=note)
    if json:
        print_json(found)
    else:
        alone, rows = len(found.members) == 1, list[Row]()
        for m in found.members:
            before = bracketed(*map(percent, (m.expected, m.low, m.high)))
            against = (NONE, NONE) if alone else (percent(m.disagreement), before)
            rows.append((Text(m.member), (*against, percent(m.abstained), percent(m.abstained_before))))
        show_figures("%", ("against the\nothers", "before", "abstained", "before"), rows)
        if found.scores:
            _show_scores(found.scores)
        note(found.verdict)
        if report:
            note(f"report: {report.resolve()}")
    if found.findings:
        raise typer.Exit(1)


def _show_scores(members: Sequence[ScoreDrift]) -> None:
    rows = list[Row]()
    for m in members:
        expected = bracketed(*map(percent, (m.expected, m.low, m.high))) if m.scored else NONE
        shares = map(percent, (m.unscored, m.unscored_before))
        rows.append((Text(m.member), (percent(m.sure), expected, *shares)))
    show_figures("%", ("sure", "before", "no score", "before"), rows)
    note("Sure: votes in the upper half of the member's scores, as they were before.")

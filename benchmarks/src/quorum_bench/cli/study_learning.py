# SPDX-License-Identifier: Apache-2.0
"""Studies of how well votes are weighed: labels, scores, texts, agreement, intervals."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from quorum_bench.cli.study_common import (
    JsonFile,
    PartsFile,
    ae110k_folder,
    ae110k_votes,
    begin,
    errors,
    shown,
    studies,
    write,
    write_part,
)
from quorum_bench.studies import (
    catalogue,
    intervals,
    label_choice,
    labels,
    score_size,
    scores,
    simulated_members,
    subsets,
    text_evidence,
)

VotesFolder = Annotated[
    Path | None,
    typer.Option(help="Folder of the demo's votes: read where they are there, recorded and kept if not."),
]
Ae110kVotes = Annotated[
    Path | None,
    typer.Option(help="Recorded votes on AE-110K; default: ae-110k/votes.jsonl in $QUORUM_DATA."),
]
DemoDeploy = Annotated[Path, typer.Option(help="The demo's LLMs, in a checkout.")]
DEMO_DEPLOY = Path("deploy.yaml")


class MembersPart(StrEnum):
    """Parts of the study ``simulated-members``."""

    em = "em"
    gold = "gold"
    shrinkage = "shrinkage"
    blocs = "blocs"
    label = "label"


class CataloguePart(StrEnum):
    """Parts of the study ``catalogue``."""

    accuracy = "accuracy"
    size = "size"


class LabelsPart(StrEnum):
    """Parts of the study ``labels``."""

    demo = "demo"
    ae110k = "ae110k"


class ScoresPart(StrEnum):
    """Parts of the study ``scores``."""

    seeds = "seeds"
    draws = "draws"
    noise = "noise"
    size = "size"
    equal = "equal"


class IntervalsPart(StrEnum):
    """Parts of the study ``intervals``."""

    coverage = "coverage"
    alarms = "alarms"


class EvidencePart(StrEnum):
    """Parts of the study ``evidence``."""

    accuracy = "accuracy"
    cost = "cost"


@studies.command("simulated-members")
def simulated_members_(
    part: Annotated[
        list[MembersPart] | None, typer.Option("--part", help="Only this part; may be repeated.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer settings and seeds.")] = False,
    votes: Annotated[
        Path | None, typer.Option(help="Recorded votes with gold; the part `label` needs them.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Compare learned weights with the best that can be known at all, on simulated members.

    Each row has what is wanted, what was got, and the verdict. Parts: `em` against MAP with the true
    accuracies, `gold` against the exact Bayes decision where members repeat each other, `shrinkage` against
    shared and separate accuracies, `blocs` with and without looking for them, `label` chosen against random.

    Example: `quorum-bench study simulated-members --part em --part gold --quick`.
    """
    environment = begin()
    parts = part or [name for name in MembersPart if name is not MembersPart.label or votes]
    rows: list[dict[str, Any]] = []
    with errors():
        print(simulated_members.HEAD)
        for name in parts:
            first = len(rows)
            for row in simulated_members.rows_of(name.value, quick, votes):
                rows.append(row)
                print(simulated_members.line(row), flush=True)
            print(simulated_members.summary(name.value, rows[first:]) + "\n")
        if json_file:
            write(json_file, {"machine": environment, "quick": quick, "rows": rows})


@studies.command("scores")
def scores_(
    part: Annotated[
        list[ScoresPart] | None, typer.Option("--part", help="Only this part; may be repeated.")
    ] = None,
    votes: VotesFolder = None,
    deploy: DemoDeploy = DEMO_DEPLOY,
    ae110k: Ae110kVotes = None,
    seeds: Annotated[int, typer.Option(min=1, help="Tables of every kind.")] = 10,
    json_file: PartsFile = None,
) -> None:
    """Measure what scores of votes add to learned weights, what noise in their place costs, and their size.

    Parts: `seeds` without gold, on listings of ten seeds; `draws` with 100 gold labels; `noise` instead of
    scores, and distorted ones; `size` of histograms, seconds and microseconds; `equal` hashes of weights and
    decisions by votes without scores. Votes on 600 listings a seed are recorded from the demo's LLMs.

    Example: `quorum-bench study scores --part seeds --votes out/score-votes`.
    """
    environment = begin()
    inputs = scores.Inputs(votes, deploy, ae110k_votes(ae110k), seeds)
    with errors():
        for name in part or list(ScoresPart):
            rows = _scores(name, inputs)
            write_part(json_file, name.value, {"machine": environment, "seeds": seeds, "result": rows})


@studies.command("evidence")
def evidence_(
    part: Annotated[
        list[EvidencePart] | None, typer.Option("--part", help="Only this part; may be repeated.")
    ] = None,
    votes: Annotated[
        Path | None, typer.Option(help="Votes with gold and titles; default: AE-110K's in $QUORUM_DATA.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Of folds and labels.")] = 5,
    draws: Annotated[int, typer.Option(min=1, help="Of the labels, for each seed.")] = 1,
    json_file: PartsFile = None,
) -> None:
    """Measure what the products' texts add to `loglinear`, and what they cost.

    Parts: `accuracy` by the number of gold labels, cross-validated as `quorum evaluate` does, with
    calibration and calls saved; `cost` in microseconds, without and with the text by turns.

    Example: `quorum-bench study evidence --part accuracy --draws 4`.
    """
    environment = begin()
    with errors():
        table = _votes(votes)
        for name in part or list(EvidencePart):
            if name is EvidencePart.accuracy:
                found = text_evidence.accuracy(table, seeds, draws)
                rows = shown(text_evidence.ACCURACY_HEAD, found, text_evidence.accuracy_line)
            else:
                rows = shown(text_evidence.TIME_HEAD, text_evidence.cost(table), text_evidence.cost_line)
            print()
            figures = {"machine": environment, "seeds": seeds, "draws": draws, "result": rows}
            write_part(json_file, name.value, figures)


@studies.command("subsets")
def subsets_(
    votes: Annotated[
        list[Path] | None, typer.Option(help="Further votes tables with gold; may be repeated.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(envvar="QUORUM_DATA", help="Folder of the public data; else left out.")
    ] = None,
    demo: Annotated[
        Path | None,
        typer.Option(help="Folder of the demo's votes, recorded where they are missing; else left out."),
    ] = None,
    deploy: DemoDeploy = DEMO_DEPLOY,
    draws: Annotated[int, typer.Option(min=1, help="Subsets of a table at most.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Draws the subsets.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="Tables of the demo, and simulated ones.")] = 10,
    json_file: JsonFile = None,
) -> None:
    """Compare `em` and `auto` without gold to majority, on subsets of 3 to 5 members of recorded votes.

    `em before` trusts agreement always (the setting `cautious` off). Tables: AE-110K, three raters and three
    annotators in the public data, the demo's LLMs, files, and simulated independent members.

    Example: `quorum-bench study subsets --demo out/score-votes`.
    """
    environment = begin()
    inputs = subsets.Inputs(data, votes or (), demo, deploy, draws, seed, seeds)
    with errors():
        print(f"{draws} draws, seed {seed}, {seeds} tables of a kind\n")
        rows = shown(subsets.HEAD, subsets.subsets(inputs), subsets.line)
        print("\n" + subsets.summary(rows) + "\n")
        took = subsets.seconds()
        print(subsets.seconds_line(took))
        if json_file:
            figures = {"draws": draws, "seed": seed, "seeds": seeds, "result": rows, "seconds": took}
            write(json_file, {"machine": environment} | figures)


@studies.command("labels")
def labels_(
    part: Annotated[
        list[LabelsPart] | None, typer.Option("--part", help="Only this part; may be repeated.")
    ] = None,
    votes: VotesFolder = None,
    deploy: DemoDeploy = DEMO_DEPLOY,
    ae110k: Ae110kVotes = None,
    seeds: Annotated[int, typer.Option(min=0, help="Further listings, of other seeds than the demo's.")] = 2,
    draws: Annotated[int, typer.Option(min=1, help="Draws of labels per size.")] = 40,
    json_file: PartsFile = None,
) -> None:
    """Measure what few gold labels give: mean and worst draw, and the attribute that loses most.

    Parts: `demo`, many draws of 50, 100 and 200 labels on votes of the demo's LLMs, without and with scores;
    `ae110k`, held-out accuracy by number of labels where attributes are alike. Both compare weights by
    attribute with common ones.

    Example: `quorum-bench study labels --part demo --votes out/label-votes`.
    """
    environment = begin()
    inputs = labels.Inputs(votes, deploy, ae110k_votes(ae110k), seeds, draws)
    with errors():
        for name in part or list(LabelsPart):
            rows = _labels(name, inputs)
            write_part(json_file, name.value, {"machine": environment, "result": rows})


def _votes(file: Path | None) -> Path:
    """The file of votes, by default those on AE-110K; raises ValueError without any."""
    if (votes := ae110k_votes(file)) is None:
        raise ValueError("no votes: give --votes FILE, or set QUORUM_DATA")
    return votes


def _labels(part: LabelsPart, inputs: labels.Inputs) -> list[dict[str, Any]]:
    """Measure a part, print its table line by line, return its figures."""
    if part is LabelsPart.demo:
        rows = shown(labels.DEMO_HEAD, labels.demo(inputs), labels.demo_line)
        print(labels.demo_summary(rows, inputs.draws) + "\n")
        return rows
    if inputs.ae110k is None or not inputs.ae110k.is_file():
        print(f"AE-110K is left out: no such file: {inputs.ae110k or '--ae110k FILE'}")
        return []
    rows = shown(labels.REAL_HEAD, labels.real(inputs), labels.real_line)
    print(labels.real_summary(rows) + "\n")
    return rows


def _scores(part: ScoresPart, inputs: scores.Inputs) -> list[dict[str, Any]]:
    """Measure a part, print its table line by line, return its figures."""
    if part in (ScoresPart.noise, ScoresPart.equal) and inputs.real is None:
        print(f"AE-110K is left out: no such file: {inputs.ae110k or '--ae110k FILE'}")
    match part:
        case ScoresPart.seeds:
            rows = shown(scores.SEEDS_HEAD, scores.seeds(inputs), scores.seeds_line)
            print(scores.seeds_summary(rows) + "\n")
        case ScoresPart.draws:
            rows = list(scores.draws(inputs))
            print(scores.draws_table(rows) + "\n")
        case ScoresPart.noise:
            rows = shown(scores.NOISE_HEAD, scores.noise(inputs), scores.noise_line)
            print(scores.noise_summary(rows) + "\n")
        case ScoresPart.size:
            rows = shown(score_size.SIZE_HEAD, score_size.size(), score_size.size_line)
            rows += shown(score_size.TIME_HEAD, score_size.serving(), score_size.time_line)
            print()
        case ScoresPart.equal:
            rows = shown("Hashes of AE-110K without scores", scores.equal(inputs), scores.equal_line)
            print()
    return rows


@studies.command("labels-chosen")
def labels_chosen_(
    votes: VotesFolder = None,
    deploy: DemoDeploy = DEMO_DEPLOY,
    ae110k: Ae110kVotes = None,
    tables: Annotated[int, typer.Option(min=1, help="Tables of the demo.")] = 6,
    draws: Annotated[int, typer.Option(min=2, help="Splits of the products, each with its labels.")] = 20,
    json_file: JsonFile = None,
) -> None:
    """Compare labels of cells that `quorum label` chooses with random ones and the earlier rule.

    Of every draw, half of the products (of the demo 200 listings) can be labelled, 50, 100 or 200 cells of
    them; loglinear learns from these and is judged on as many other products.

    Example: `quorum-bench study labels-chosen --votes out/score-votes --json choice.json`.
    """
    environment = begin()
    inputs = label_choice.Inputs(votes, deploy, ae110k_votes(ae110k), tables, draws)
    with errors():
        rows = shown(label_choice.HEAD, label_choice.rows(inputs), label_choice.line)
        print("\n" + label_choice.summary(rows))
        if json_file:
            write(json_file, {"machine": environment, "tables": tables, "draws": draws, "rows": rows})


@studies.command("intervals")
def intervals_(
    part: Annotated[
        list[IntervalsPart] | None, typer.Option("--part", help="Only this part; may be repeated.")
    ] = None,
    votes: Annotated[
        Path | None,
        typer.Option(help="Recorded votes with gold; default: ae-110k/votes.jsonl in $QUORUM_DATA."),
    ] = None,
    splits: Annotated[int, typer.Option(min=1, help="Random halves of the products.")] = 200,
    labels: Annotated[int, typer.Option(min=1, help="Labels that are learned from.")] = 100,
    draws: Annotated[int, typer.Option(min=2, help="Draws of these labels, for each interval.")] = 6,
    json_file: JsonFile = None,
) -> None:
    """Measure how often 95 % intervals cover the figure of other products, and how often a guard errs.

    Parts: `coverage` of the intervals of `quorum evaluate --gold-labels`, computed on one half of the
    products, by the figure on the other; `alarms`: how often an attribute is named worse where two sets of
    decisions are equally good.

    Example: `quorum-bench study intervals --part alarms --splits 50`.
    """
    environment = begin()
    figures: dict[str, Any] = {}
    with errors():
        table = _votes(votes)
        for name in part or list(IntervalsPart):
            if name is IntervalsPart.coverage:
                rows = list(intervals.coverage(table, splits, labels, draws))
                figures[name.value] = intervals.covered(rows)
                print(intervals.coverage_table(rows, labels, draws) + "\n", flush=True)
            else:
                figures[name.value] = rows = list(intervals.alarms(table, splits, labels))
                print(intervals.alarms_table(rows) + "\n", flush=True)
        if json_file:
            settings = {"splits": splits, "labels": labels, "draws": draws}
            write(json_file, {"machine": environment} | settings | figures)


@studies.command("catalogue")
def catalogue_(
    part: Annotated[
        list[CataloguePart] | None, typer.Option("--part", help="Only this part; may be repeated.")
    ] = None,
    ae110k: Annotated[
        Path | None,
        typer.Option(help="Folder of AE-110K, with votes and products; default: ae-110k in $QUORUM_DATA."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Of folds and labels.")] = 5,
    products: Annotated[int, typer.Option(min=1, help="For `size`: made-up products at most.")] = 100_000,
    json_file: PartsFile = None,
) -> None:
    """Measure a member of runtime `catalogue`: what its votes add to those of LLMs, and its size and speed.

    Parts: `accuracy` on AE-110K, with its other products and with those for training as the filled ones;
    `size` of the index of made-up products, seconds to build it, and microseconds of a look-up.

    Example: `quorum-bench study catalogue --part size --products 10000`.
    """
    environment, ae110k = begin(), ae110k_folder(ae110k)
    with errors():
        for name in part or list(CataloguePart):
            if name is CataloguePart.size:
                sizes = (catalogue.size(count) for count in (products // 10 or 1, products))
                rows = shown(catalogue.SIZE_HEAD, sizes, catalogue.size_line)
            elif ae110k is None or not ae110k.is_dir():
                print(f"AE-110K is left out: no such folder: {ae110k or '--ae110k FOLDER'}")
                continue
            else:
                rows = list(catalogue.accuracy(ae110k, seeds))
                print(catalogue.accuracy_table(rows))
            print()
            write_part(json_file, name.value, {"machine": environment, "seeds": seeds, "result": rows})

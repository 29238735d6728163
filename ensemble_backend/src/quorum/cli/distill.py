# SPDX-License-Identifier: Apache-2.0
"""``quorum distill``: teach a small encoder what the ensemble judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

import quorum
from quorum.cli.console import CommandError, JsonOption, StepBar, new_table, note, out, print_json
from quorum.cli.signals import terminated_as_interrupted

if TYPE_CHECKING:
    from quorum import DistillReport

Method = Literal["adapter", "layers"]
Loss = Literal["pearson", "mse"]


JudgedArgument = Annotated[Path, typer.Argument(help="Judged pairs of `quorum judge` (Parquet or JSONL).")]
BaseOption = Annotated[Path, typer.Option(help="Folder of an encoder for sentence vectors, such as MiniLM.")]
ClicksOption = Annotated[
    Path | None,
    typer.Option(help="JSON lines: item, keyphrase, clicks, impressions, position; and text if new."),
]
RelevanceOption = Annotated[
    Path | None, typer.Option(help="JSON lines: item, keyphrase, relevance (the search engine's score).")
]
ItemsOption = Annotated[
    Path | None, typer.Option(help="Listings (CSV, JSONL) to mine more pairs for; they are not judged.")
]
KeyphrasesOption = Annotated[
    Path | None, typer.Option(help="Keyphrases to mine, one a line, or JSON lines with `keyphrase`.")
]
HeldOutOption = Annotated[
    Path | None,
    typer.Option("--heldout", help="Judged pairs to judge by; default: of a fifth of JUDGED's keyphrases."),
]
MethodOption = Annotated[
    Method,
    typer.Option(help="adapter: a matrix on the base's vectors (seconds); layers: its upper half."),
]
LossOption = Annotated[Loss, typer.Option(help="pearson: correlation with the label; mse: its square.")]
DirectOption = Annotated[
    bool, typer.Option("--direct", help="Leave the cross-encoder out: learn judged pairs alone.")
]
DimsOption = Annotated[str, typer.Option(help="Dimensions that vectors may be cut to, the largest first.")]
WeightsOption = Annotated[
    str, typer.Option(help="Task=weight: judge, clicks, relevance; 0 leaves a task out.")
]
PositionBiasOption = Annotated[
    float, typer.Option(help="Clicks: position p is assumed to be looked at with chance 1 / p ** this.")
]
EpochsOption = Annotated[int | None, typer.Option(min=1, help="Of the student; default: 6, for layers 1.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Draws the held-out keyphrases, and all else.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace --out if it is a student.")]


def distill(
    judged: JudgedArgument,
    base: BaseOption,
    target: Annotated[Path, typer.Option("--out", "-o", help="Folder to make.")],
    clicks: ClicksOption = None,
    relevance: RelevanceOption = None,
    items: ItemsOption = None,
    keyphrases: KeyphrasesOption = None,
    held_out: HeldOutOption = None,
    method: MethodOption = "adapter",
    loss: LossOption = "pearson",
    direct: DirectOption = False,
    dims: DimsOption = "384,128,64",
    weights: WeightsOption = "judge=1,clicks=.3,relevance=.3",
    position_bias: PositionBiasOption = 1.0,
    epochs: EpochsOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Teach a small encoder what the ensemble judged: a student, whose vectors find keyphrases for items.

    First a cross-encoder, which reads item and keyphrase together, learns the judge's labels. It labels pairs
    without a judgement, mined among --items and --keyphrases. The student learns from both, and from clicks
    and search relevance if they are there. Keyphrases are held out with all their pairs; they are kept out of
    training, of mining and of the clicks, and the figures are of them alone, next to those of the untrained
    base. Look at two: agreement with the judge (Pearson, AUC), and recall of keyphrases: the one can be
    bought with the other.
    Clicks are debiased by position: a buyer is assumed to look at position p with chance
    1 / p ** --position-bias, whatever stands there. Pairs that were never shown are not learned from.
    Interrupted? Run the same command again: it goes on. OUT/cross-encoder can serve as a member (runtime
    `encoder`). Next: `quorum index KEYPHRASES --encoder OUT`.

    Example: `quorum distill judged.parquet --base bases/minilm --keyphrases keyphrases.txt --out student`
    """
    options = quorum.DistillOptions(
        method=method,
        loss=loss,
        direct=direct,
        dims=_numbers(dims),
        weights=_weights(weights),
        position_bias=position_bias,
        epochs=epochs,
        seed=seed,
        force=force,
    )
    sources = quorum.DistillSources(clicks=clicks, relevance=relevance, items=items, keyphrases=keyphrases)
    try:
        with terminated_as_interrupted(), StepBar("teaching") as bar:
            report = quorum.distill_student(
                judged, base, target, options, sources, held_out=held_out, progress=bar, note=note
            )
    except KeyboardInterrupt as stopped:
        note(f"{str(stopped) or 'interrupted'}, run the same command again to go on")
        raise typer.Exit(130) from stopped
    if json:
        print_json(report)
    else:
        _show(report)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise CommandError(f"--dims {text!r}: write numbers, comma-separated, such as 384,128,64") from error


def _weights(text: str) -> dict[Any, float]:
    try:
        return {name.strip(): float(weight) for name, weight in (part.split("=") for part in text.split(","))}
    except ValueError as error:
        raise CommandError(f"--weights {text!r}: write task=number, such as judge=1,clicks=.3") from error


_TITLES = {
    "pearson": "Pearson",
    "gold_pearson": "with gold",
    "spearman": "Spearman",
    "auc": "AUC",
    "recall": "recall@10",
}


def _show(report: DistillReport) -> None:
    figures = report.student.figures
    names = [name for name in _TITLES if name in next(iter(figures["student"].values()))]
    table = new_table("held out", "dims", *(_TITLES[name] for name in names))
    for title, part in (("untrained base", "zero_shot"), ("student", "student"), ("gain", "over_zero_shot")):
        for size, row in figures[part].items():
            table.add_row(title, size, *(_cell(row.get(name)) for name in names))
    if assistant := figures.get("cross-encoder"):
        table.add_row("cross-encoder", "-", *(_cell(assistant.get(name)) for name in names))
    out.print(table)
    note(
        f"{figures['pairs']} pairs of {figures['queries']} keyphrases held out, 95 % intervals over"
        " keyphrases; gain: paired; recall: of an item's relevant keyphrases among its ten nearest"
    )
    for remark in report.student.remarks:
        note(remark)
    note(f"wrote {report.out}; next: quorum index KEYPHRASES --encoder {report.out}")
    if report.member:
        note(Text(f"to let the cross-encoder judge as a member, in deploy.yaml:\n{report.member}"))


def _cell(figure: dict[str, float | None] | None) -> str:
    if figure is None or figure["value"] is None:
        return "-"
    ends = [figure[end] for end in ("low", "high")]
    shown = ", ".join("-" if end is None else f"{end:.3f}" for end in ends)
    return f"{figure['value']:.3f} [{shown}]"

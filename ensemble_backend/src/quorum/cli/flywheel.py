# SPDX-License-Identifier: Apache-2.0
"""``quorum flywheel``: one turn of judge, distil, index, publish and measure, for a new day's items."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

import quorum
from quorum.bulk.spent import totals_in_words
from quorum.cli.console import (
    DEPLOY,
    DeployOption,
    JsonOption,
    ProgressBar,
    StepBar,
    counted,
    note,
    out,
    print_json,
)
from quorum.cli.evaluate_retrieval import table_of
from quorum.cli.options import UrlOption, names_in
from quorum.cli.signals import terminated_as_interrupted

_INTERRUPTED = 130


DayArgument = Annotated[
    Path, typer.Argument(help="The day's pairs of item and keyphrase, as for `quorum judge`.")
]
BaseOption = Annotated[Path, typer.Option(help="Folder of the base encoder, as for `quorum distill`.")]
KeyphrasesOption = Annotated[Path, typer.Option(help="Keyphrases to recommend, as for `quorum index`.")]
HeldOutOption = Annotated[
    Path | None,
    typer.Option(
        "--heldout",
        help="Judged pairs that no student learns; default: `retriever.heldout` of deploy.yaml.",
    ),
]
BeforeOption = Annotated[
    Path | None, typer.Option(help="Judged pairs of earlier days: OUT/judged.parquet of the last turn.")
]
AgainstOption = Annotated[
    Path | None, typer.Option(help="Student to compare with: OUT/student of the last turn.")
]
TextOption = Annotated[str, typer.Option(help="Columns of the item's text, as for `quorum judge`.")]
PerRequestOption = Annotated[int, typer.Option(help="Keyphrases asked together, 1 to 64.")]
MaxBadOption = Annotated[int, typer.Option(help="So many rows of the day's pairs may be broken.")]
DirectOption = Annotated[
    bool, typer.Option("--direct", help="Leave the cross-encoder out: minutes less, one member less.")
]
BlocklistOption = Annotated[
    Path | None, typer.Option(help="Keyphrases that are left out of the index, one a line.")
]
DimsOption = Annotated[int | None, typer.Option(min=1, help="Dimensions of the index; default: 64.")]
ForceOption = Annotated[
    str | None,
    typer.Option(metavar="REASON", help="Publish even if the gate refuses; the reason is logged."),
]


def flywheel(
    day: DayArgument,
    base: BaseOption,
    keyphrases: KeyphrasesOption,
    target: Annotated[Path, typer.Option("--out", "-o", help="Folder of this turn.")],
    held_out: HeldOutOption = None,
    before: BeforeOption = None,
    against: AgainstOption = None,
    text: TextOption = "text",
    per_request: PerRequestOption = 16,
    concurrency: Annotated[int, typer.Option(help="Requests in flight.")] = 16,
    max_bad: MaxBadOption = 0,
    direct: DirectOption = False,
    blocklist: BlocklistOption = None,
    dims: DimsOption = None,
    force: ForceOption = None,
    url: UrlOption = None,
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Close the loop for a new day's items: judge, distil, index, publish, measure.

    The served ensemble judges the day's pairs; a student learns them and all earlier ones (--before); the
    keyphrases are indexed by it; the version is published if the gate allows it, and measured in any case.
    Says what changed, what each step took, and how many questions an encoder that is asked first would save.

    Judging asks every member about the day's pairs: `quorum judge DAY --dry-run` says before what that costs.

    OUT keeps what each step made. Whatever ends a run, the same command goes on: a step that is done is not
    done again, and no pair is asked twice. Another input is refused once its step is done.

    Pairs of held-out keyphrases are judged and not learned: leave them out of DAY. No channel changes, except
    by the first version: `quorum canary N --retriever` and `quorum promote N --retriever` do that.

    Exit code 1 where the gate refuses the version.

    Example: `quorum flywheel tuesday.jsonl --base bases/minilm --keyphrases keyphrases.csv.gz --heldout
    heldout.parquet --before monday/judged.parquet --against monday/student --out tuesday`
    """
    judging = quorum.JudgeOptions(
        text=names_in(text) or [], per_request=per_request, concurrency=concurrency, max_bad=max_bad, url=url
    )
    options = quorum.FlywheelOptions(
        held_out=held_out, before=before, against=against, force=force, judge=judging,
        distill=quorum.DistillOptions(direct=direct),
        index=quorum.IndexOptions(blocklist=blocklist, dims=dims),
    )  # fmt: skip
    _turn(quorum.load_deployment(deploy), (day, base, keyphrases, target), options, json)


def _turn(
    spec: quorum.Deployment, paths: tuple[Path, Path, Path, Path], options: quorum.FlywheelOptions, json: bool
) -> None:
    try:
        with (
            terminated_as_interrupted(),
            ProgressBar("judge", "pairs") as judging,
            StepBar("teaching") as teaching,
        ):
            report = quorum.flywheel(spec, *paths, options, progress=judging, stages=teaching, note=note)
    except KeyboardInterrupt as stopped:
        note(f"{str(stopped) or 'interrupted'}; run the same command again to go on")
        raise typer.Exit(_INTERRUPTED) from stopped
    if json:
        print_json(report)
    else:
        _show(report, spec.currency)
    if report.refused:
        raise typer.Exit(1)


def _show(report: quorum.FlywheelReport, currency: str) -> None:
    out.print(table_of("held out", report.evaluation.figures, report.evaluation.k))
    out.print(table_of("difference", report.evaluation.differences, report.evaluation.k))
    for remark in report.evaluation.remarks:
        note(remark)
    note(
        f"{counted(report.judged, 'pair')} of {report.pairs} judged, by"
        f" {counted(report.requests, 'request')} to {counted(report.members, 'member')};"
        f" {counted(report.learned, 'pair')} learned"
    )
    if report.spent:
        note(f"the ensemble answered by {totals_in_words(report.spent, currency)}")
    for number, why in (
        (report.replaced, "of earlier days were judged again: the new label counts"),
        (report.changed, "of earlier days no longer count: the item has another text"),
        (report.held_out, "were judged and not learned: their keyphrases are held out"),
    ):
        if number:
            note(f"{counted(number, 'pair')} {why}")
    for name, saved in report.savings.items():
        note(f"the {name}, asked first, {saved}")
    note(", ".join(f"{step} {seconds:.1f} s" for step, seconds in report.seconds.items()))
    if report.gate:
        note(f"the gate: {report.gate}")
    if report.refused:
        note(Text(report.refused, "bold red"))
        return
    note(
        f"published version {report.version} of the retriever, {counted(report.keyphrases, 'keyphrase')};"
        f" next: `quorum canary {report.version} --retriever`, `quorum promote {report.version} --retriever`"
    )

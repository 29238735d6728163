# SPDX-License-Identifier: Apache-2.0
"""``quorum tune merge``: merge LoRA adapters into one, and check what is left of each task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

import quorum
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
from quorum.cli.options import files_by_task, load_if_any
from quorum.cli.signals import terminated_as_interrupted

if TYPE_CHECKING:
    from quorum import MergeReport

Method = Literal["linear", "ties", "dare_linear", "dare_ties", "cat", "svd"]


def merge(
    adapters: Annotated[list[Path], typer.Argument(help="Folders of two LoRA adapters or more.")],
    base: Annotated[Path, typer.Option(help="Folder of the model that all of them were tuned on.")],
    target: Annotated[Path, typer.Option("--out", "-o", help="Folder to make.")],
    method: Annotated[
        Method, typer.Option(help="cat and svd add up the updates; the others their factors apart.")
    ],
    weights: Annotated[
        str | None, typer.Option(help="Comma-separated, one for each adapter; default: equal shares.")
    ] = None,
    density: Annotated[
        float | None, typer.Option(help="ties, dare_*: share of the weights that stays; default: 0.5.")
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(help="TASK=FILE of gold that no adapter was tuned on; repeat it for each task."),
    ] = None,
    margin: Annotated[float, typer.Option(help="A task's parse share may fall by this, from 0 to 1.")] = 0.05,
    rows: Annotated[int, typer.Option(min=1, help="Rows of each FILE to ask about, at most.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Draws these rows, and what dare_* drop.")] = 0,
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Merge LoRA adapters of one base into one adapter.

    A merge fails without an error: often the merged adapter answers one task in the form of another. So name
    rows of each task by --check: parse share and score are measured before and after, with and without guided
    decoding. Where a parse share falls by more than --margin, the command fails, and the folder, which is
    written all the same, says so in its card. What PEFT would merge wrongly (DoRA, rsLoRA, ranks per module,
    other bases and more) is refused before anything is loaded.
    One adapter tuned on all tasks (`quorum tune ... --mix`) keeps every form; merge only tasks that answer
    alike.

    Example: `quorum tune merge adapters/ner adapters/rel --base models/smollm2 --out adapters/both
    --method svd --check entities=ner-test.jsonl --check relevance=rel-test.jsonl`
    """
    options = quorum.MergeOptions(
        method=method, weights=_weights(weights), density=density, seed=seed, margin=margin, rows=rows
    )
    checks = files_by_task("--check", check or [])
    with (
        terminated_as_interrupted(),
        err.status(f"merging by {method}, and asking about {len(checks)} tasks"),
    ):
        report = quorum.merge_adapters(adapters, base, target, options, checks, load_if_any(deploy))
    if json:
        print_json(report)
    else:
        _show(report)
    if not report.passed:
        raise typer.Exit(1)


def _weights(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise CommandError(f"--weights {text!r}: write numbers, comma-separated, such as 0.7,0.3") from error


def _show(report: MergeReport) -> None:
    if report.comparisons:
        table = new_table("%", "decoding", "parse before", "after", "score", "before", "after", "")
        for one in report.comparisons:
            table.add_row(
                Text(one.task),
                "guided" if one.guided else "free",
                *(f"{share:.1%}" for share in (one.parse_before, one.parse_after)),
                one.metric,
                *(f"{score:.1%}" for score in (one.score_before, one.score_after)),
                Text("lost", "bold red") if one.lost else "",
            )
        out.print(table)
        note("Before: the single adapter that is best at the task. Parse: of the answers, those allowed.")
    else:
        note("nothing was checked: name rows of each task by --check TASK=FILE")
    for remark in report.card.remarks:
        note(Text(remark, "bold red"))
    note(f"wrote {report.out}")

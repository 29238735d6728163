# SPDX-License-Identifier: Apache-2.0
"""``quorum evaluate-retrieval``: compare a student with BM25, an untrained base and other students."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Column, Table

import quorum
from quorum.cli.console import CommandError, JsonOption, new_table, note, out, print_json

if TYPE_CHECKING:
    from quorum.evaluation.stats import Estimate


def evaluate_retrieval(
    judged: Annotated[Path, typer.Argument(help="Pairs of `quorum judge` that the student was not taught.")],
    encoder: Annotated[Path, typer.Option(help="Folder of the student, of `quorum distill`.")],
    against: Annotated[Path | None, typer.Option(help="Folder of another student.")] = None,
    base: Annotated[
        Path | None, typer.Option(help="Folder of a base model, measured untrained; needs PyTorch.")
    ] = None,
    keyphrases: Annotated[
        Path | None,
        typer.Option(help="Further keyphrases that recall searches among, as for `quorum index`."),
    ] = None,
    dims: Annotated[
        str | None, typer.Option(help="Dimensions, comma-separated; default: all of the student's.")
    ] = None,
    k: Annotated[int, typer.Option(min=1, max=100, help="Ranks that count for nDCG and recall.")] = 10,
    engine: Annotated[
        Literal["openvino", "onnxruntime"], typer.Option(help="What computes the vectors.")
    ] = "openvino",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: one per core.")] = 0,
    json: JsonOption = False,
) -> None:
    """Measure a student on judged pairs: agreement with the judge, recall of keyphrases and items.

    Every figure has a 95 % interval, and every difference is paired: both from 1 000 draws of whole
    keyphrases. Recall is a lower bound, as keyphrases without a judgement may be just as right. Look at both:
    training can gain agreement and lose recall.

    Example: `quorum evaluate-retrieval heldout.parquet --encoder students/first --base bases/minilm`
    """
    try:
        cuts = tuple(int(part) for part in (dims or "").split(",") if part.strip())
    except ValueError as error:
        raise CommandError(f"--dims {dims!r}; give numbers, such as 384,128,64") from error
    options = quorum.RetrievalOptions(
        against=against, base=base, keyphrases=keyphrases, dims=cuts, k=k, engine=engine, threads=threads
    )
    report = quorum.evaluate_retrieval(judged, encoder, options, note=note)
    if json:
        print_json(report)
        return
    out.print(table_of("", report.figures, report.k))
    out.print(table_of("difference", report.differences, report.k))
    note(
        f"{report.pairs} judged pairs of {report.queries} keyphrases and {report.items} items; keyphrases are"
        f" searched among {report.candidates}; in brackets 95 % intervals over keyphrases"
    )
    if report.ceiling:
        figures = ", ".join(f"{name} {_shown(figure)}" for name, figure in report.ceiling.items())
        note(f"the judge against people: {figures}")
    if report.disagreement:
        share = f"{report.disagreement:.0%} of the pairs"
        note(f"on average a member of the judge names another grade on {share}")
    for remark in report.remarks:
        note(remark)


def table_of(title: str, rows: Mapping[str, Mapping[str, Estimate]], k: int) -> Table:
    """Figures of methods, or differences, with their intervals."""
    columns = {
        "pearson": "Pearson", "spearman": "Spearman", "auc": "AUC", "ndcg": f"nDCG@{k}",
        "keyphrases": f"recall@{k},\nkeyphrases", "items": f"recall@{k},\nitems",
    }  # fmt: skip
    names = (title, *columns.values())
    heads = (Column(head, min_width=max(map(len, head.split()), default=0)) for head in names)
    table = new_table(*heads)
    for name, figures in rows.items():
        table.add_row(name, *(_shown(figures[key]) if key in figures else "-" for key in columns))
    return table


def _shown(figure: Estimate) -> str:
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"

# SPDX-License-Identifier: Apache-2.0
"""``quorum index``: embed keyphrases by a student, and make the version that is published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

import quorum
from quorum.cli.console import CommandError, JsonOption, ProgressBar, counted, note, print_json
from quorum.cli.signals import terminated_as_interrupted

KeyphrasesArgument = Annotated[
    Path,
    typer.Argument(
        help="Text (one a line), JSONL, CSV (each also .gz) or Parquet with a column `keyphrase`, and"
        " perhaps `category`, or `categories` (in a CSV separated by |)."
    ),
]
EncoderOption = Annotated[Path, typer.Option(help="Folder of the student, of `quorum distill`.")]
DimsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Dimensions of the vectors, of those that the student has; default: 64."),
]
KindOption = Annotated[
    Literal["exact", "usearch"] | None,
    typer.Option("--index", help="exact: all vectors are compared; usearch: a graph. Default: by size."),
]
NumbersOption = Annotated[
    Literal["f16", "i8"],
    typer.Option(help="Of a usearch graph: i8 takes less memory, and finds a little less."),
]
BlocklistOption = Annotated[
    Path | None, typer.Option(help="Keyphrases that are left out, one a line; spellings count as one.")
]
MaxBadOption = Annotated[
    str, typer.Option(help="Lines that may be broken, or their share of all; more end the run.")
]
EngineOption = Annotated[Literal["openvino", "onnxruntime"], typer.Option(help="What computes the vectors.")]
ThreadsOption = Annotated[int, typer.Option(min=0, help="CPU threads; 0: one per core.")]


def index(
    keyphrases: KeyphrasesArgument,
    encoder: EncoderOption,
    target: Annotated[Path, typer.Option("--out", "-o", help="Folder to make.")],
    dims: DimsOption = None,
    kind: KindOption = None,
    numbers: NumbersOption = "f16",
    blocklist: BlocklistOption = None,
    max_bad: MaxBadOption = "1%",
    engine: EngineOption = "openvino",
    threads: ThreadsOption = 0,
    json: JsonOption = False,
) -> None:
    """Embed keyphrases by a student, and make the version of the retriever that `quorum publish` takes.

    Keyphrases that are the same for a buyer (case, punctuation, plural) become one. Broken lines (control
    characters, more than 128 bytes, empty, not UTF-8) go into OUT.left-out.jsonl, with line and reason. Up to
    200 000 keyphrases are searched exactly; of more a graph is built, and the share of the exact 50 nearest
    that it finds is measured.
    Killed or interrupted? Run the same command again: it goes on. The folder appears when all of it is done.

    Example: `quorum index keyphrases.txt --encoder students/first --out versions/first`
    """
    options = quorum.IndexOptions(
        dims=dims, index=kind, numbers=numbers, blocklist=blocklist, max_bad=max_bad, engine=engine,
        threads=threads,
    )  # fmt: skip
    try:
        with terminated_as_interrupted(), ProgressBar("embedding") as bar:
            report = quorum.index_keyphrases(
                keyphrases, encoder, target, options, progress=lambda at: bar(at.done, at.total, at.rate),
                note=note,
            )  # fmt: skip
    except KeyboardInterrupt as stopped:
        note("interrupted; run the same command again to go on")
        raise typer.Exit(130) from stopped
    except BlockingIOError as error:
        raise CommandError(f"another run is making {target}; wait for it, or name another --out") from error
    print_json(report) if json else _show(report, target)


def _show(report: quorum.IndexReport, target: Path) -> None:
    merged = f"{counted(report.duplicates, 'duplicate')} merged, {report.blocked} on the blocklist"
    note(f"{counted(report.lines, 'line')} read: {merged}")
    if report.broken:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.broken.items())
        note(f"{counted(sum(report.broken.values()), 'broken line')} ({reasons}): see {report.dead_letters}")
    found = "" if report.index == "exact" else f", which finds {report.recall:.1%} of the exact 50 nearest"
    note(f"{counted(report.keyphrases, 'keyphrase')}, {report.dims} dimensions, index {report.index}{found}")
    note(f"wrote {target}, {report.content_hash:.23}; next: `quorum publish {target}`")

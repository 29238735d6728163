# SPDX-License-Identifier: Apache-2.0
"""Studies of retrieval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quorum_bench.cli.study_common import JsonFile, begin, errors, shown, studies, write
from quorum_bench.studies import retrieval_index


@studies.command("retrieval-index")
def retrieval_index_(
    encoder: Annotated[Path, typer.Option(help="Folder of a student, of `quorum distill`.")],
    data: Annotated[
        Path | None,
        typer.Option(envvar="QUORUM_DATA", help="Folder of the public data, with `keyphrases`."),
    ] = None,
    size: Annotated[
        list[int] | None,
        typer.Option(min=100, help="Keyphrases, ascending; may be repeated. Default: 10^4, 10^5, 10^6."),
    ] = None,
    dims: Annotated[
        list[int] | None, typer.Option(min=1, help="Of the vectors; may be repeated. Default: 64, 384.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(retrieval_index.KINDS)}; may be repeated.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure indexes of 10^4 to 10^6 keyphrases: build time, memory, query time, recall against exact.

    The vectors are those of real keyphrases with noise, the queries titles of real items. `x10` is the factor
    for ten times the keyphrases; linear would be 10. At 10^6 keyphrases and 384 dimensions the graph takes
    about an hour of CPU, and 3 GB of memory and disk.

    Example: `quorum-bench study retrieval-index --encoder students/first --size 10000 --size 100000`.
    """
    environment = begin()
    with errors():
        if data is None:
            raise ValueError("no public data: give --data FOLDER, or set QUORUM_DATA")
        kinds = kind or list(retrieval_index.KINDS)
        if unknown := {*kinds} - {*retrieval_index.KINDS}:
            raise ValueError(f"--kind {unknown.pop()!r}; give {', '.join(retrieval_index.KINDS)}")
        sizes, cuts = sorted(size or (10**4, 10**5, 10**6)), dims or [64, 384]
        found = retrieval_index.rows(data / "keyphrases", encoder, sizes, cuts, kinds)
        result = shown(retrieval_index.HEAD, found, retrieval_index.line)
        if json_file:
            write(json_file, {"machine": environment, "noise": retrieval_index.NOISE, "result": result})

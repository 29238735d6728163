# SPDX-License-Identifier: Apache-2.0
"""Studies of retrieval."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from quorum_bench.cli.study_common import JsonFile, begin, errors, shown, studies, write
from quorum_bench.studies import recommend, retrieval_index


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


@studies.command("recommend")
def recommend_(
    encoder: Annotated[Path, typer.Option(help="Folder of a student, of `quorum distill`.")],
    data: Annotated[
        Path | None,
        typer.Option(envvar="QUORUM_DATA", help="Folder of the public data, with `keyphrases`."),
    ] = None,
    size: Annotated[int, typer.Option(min=100, help="Keyphrases.")] = 100_000,
    dims: Annotated[int, typer.Option(min=1, help="Of the vectors.")] = 64,
    engine: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(recommend.SETTINGS)}; may be repeated. Default: all."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each server.")] = 12,
    redeploys: Annotated[int, typer.Option(min=0, help="On each server.")] = 3,
    judge: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of a running deployment of LLMs with a `default` question, to compare."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure `recommend` on real servers: latency, bulk, CPU time, recall, redeploys, by engine.

    One server for each engine runs, and they are asked in turns. Keyphrases that are not real join
    two real ones. Takes about six minutes on two quiet cores.

    Example: `quorum-bench study recommend --encoder students/first --json recommend.json`.
    """
    environment = begin()
    with errors():
        if data is None:
            raise ValueError("no public data: give --data FOLDER, or set QUORUM_DATA")
        names = engine or list(recommend.SETTINGS)
        if unknown := {*names} - {*recommend.SETTINGS}:
            raise ValueError(f"--engine {unknown.pop()!r}; give {', '.join(recommend.SETTINGS)}")
        with recommend.served(data / "keyphrases", encoder, size, dims, names) as study:
            made = study.made
            print(
                f"{len(made.texts):,} keyphrases of {dims} dimensions, {made.real:,} of them real (embedding"
                f" one takes {made.embed_ms:.2f} ms of CPU); {recommend.K} are asked for, {rounds} rounds\n"
            )
            study.rounds(rounds)
            result = shown(recommend.HEAD, study.rows(), recommend.line)
            print("\nCPU ms of an item: encoder + search + rest")
            for row in result:
                print(recommend.shares_line(row))
            redeployed = []
            if redeploys:
                head = "\nRedeploy of encoder and index, asked by one caller"
                redeployed = shown(head, study.redeploys(redeploys), recommend.redeploy_line)
            judged = recommend.judge_row(judge, study, 5) if judge else None
        if judged:
            factor = judged["p50_s"] * 1e3 / result[0]["one_p50_ms"]
            print(f"\nThe judges take {judged['p50_s']:.2f} s for an item, {factor:.0f} times as long")
        print(f"load at the end: {os.getloadavg()[0]:.1f}")
        if json_file:
            figures = {
                "keyphrases": len(made.texts),
                "real": made.real,
                "embed_ms": made.embed_ms,
                "dims": dims,
            }
            parts = {
                "dims": dims,
                "result": result,
                "redeploys": redeployed,
                "judge": judged,
                "rounds": rounds,
            }
            ended = {"load_after": list(os.getloadavg())}
            write(json_file, {"machine": environment | ended, **figures, **parts})

# SPDX-License-Identifier: Apache-2.0
"""Studies of bulk runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from quorum_bench.cli.study_common import JsonFile, begin, err, errors, shown, studies, write
from quorum_bench.studies import bulk_job


@studies.command("bulk-job")
def bulk_job_(
    rows: Annotated[int, typer.Option(min=1000, help="Listings of the job.")] = 100_000,
    concurrency: Annotated[str, typer.Option(help="Of the job: a number, or auto.")] = "auto",
    perf_analyzer: Annotated[
        Path | None, typer.Option(help="Its path; without it this package's own generator is compared with.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Length of each load of the generator.")] = 10.0,
    json_file: JsonFile = None,
) -> None:
    """Measure `quorum extract` over many listings and a load generator, on one server.

    Three members replay three attributes. Rows per second, memory in the first and last tenth, CPU of the
    command. Takes about four minutes on two quiet cores.

    Example: `quorum-bench study bulk-job --perf-analyzer perf_analyzer --json job.json`.
    """
    environment = begin()
    with errors():
        found = bulk_job.measure(
            rows, perf_analyzer, seconds, concurrency, lambda text: err.print(text, highlight=False)
        )
        shown(bulk_job.HEAD, bulk_job.rows_of(found), bulk_job.line)
        print(f"load at the end: {os.getloadavg()[0]:.1f}")
        if json_file:
            write(json_file, {"machine": environment | {"load_after": list(os.getloadavg())}, **found})

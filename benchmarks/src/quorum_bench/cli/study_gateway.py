# SPDX-License-Identifier: Apache-2.0
"""The study of the gateway."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from quorum_bench.cli.study_common import JsonFile, begin, errors, shown, studies, write
from quorum_bench.studies import gateway


@studies.command("gateway")
def gateway_(
    pairs: Annotated[int, typer.Option(min=2, help="Runs of each way, in turn.")] = 16,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of each run, after a second of warm-up.")] = 3.0,
    callers: Annotated[list[int] | None, typer.Option(help="May be repeated; 1 and 32.")] = None,
    deploy: Annotated[Path, typer.Option(help="A deployment of real LLMs.")] = Path("deploy.yaml"),
    listings: Annotated[Path, typer.Option(help="Products that they are asked about.")] = Path(
        "examples/demo/listings.jsonl"
    ),
    part: Annotated[list[str] | None, typer.Option(help="llms, at-once; may be repeated.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure what the gateway adds over gRPC: one server, asked directly and through a gateway, in turn.

    Two deployments: members that answer at once, and the LLMs of a file. The caller has quotas, of requests
    and of money, which are counted.

    Example: `quorum-bench study gateway --pairs 4 --part at-once`.
    """
    environment = begin()
    known: dict[str, gateway.Deployed] = {"at-once": gateway.AT_ONCE, "llms": deploy}
    with errors():
        if unknown := {*(part or ())} - {*known}:
            raise ValueError(f"no part {', '.join(sorted(unknown))}; use {', '.join(known)}")
        chosen = {name: known[name] for name in part or known}
        effort = gateway.Effort(pairs, seconds, callers or (1, 32))
        rows = shown(gateway.HEAD, gateway.measure(chosen, listings, effort), gateway.line)
        print(gateway.summary(rows))
        if json_file:
            machine = environment | {"load_after": list(os.getloadavg())}
            write(json_file, {"machine": machine, "seconds": seconds, "rows": rows})

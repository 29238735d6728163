# SPDX-License-Identifier: Apache-2.0
"""``quorum-bench chaos``: break a deployment under load and count what callers notice."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from quorum_bench.chaos.cases import Row, long_cases, problems, run_case, short_cases
from quorum_bench.chaos.faults import Fault
from quorum_bench.chaos.soak import Sample, soak
from quorum_bench.chaos.traffic import Outcome
from quorum_bench.chaos.world import World
from quorum_bench.cli.study_common import JsonFile, begin, errors, write

_LEGEND = (
    "lost: failed, no server, or late; wrong: not the vote of those that answered",
    "left: slots, processes and files that the server does not need any more",
    "answered: within 2 s; empty: no member answered; refused: before any was asked",
    "gap: seconds until answers come again; all: from its end until all members vote",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(chaos)


def chaos(
    everything: Annotated[
        bool, typer.Option("--long", help="Every fault of every part at 0.5, 2 and 40 requests/s: an hour.")
    ] = False,
    fault: Annotated[
        list[str] | None, typer.Option(help="Only faults of this kind, such as kill; may be repeated.")
    ] = None,
    part: Annotated[
        list[str] | None, typer.Option(help="Only parts whose name contains this; may be repeated.")
    ] = None,
    requests: Annotated[
        int | None, typer.Option("--soak", min=1000, help="Ask so often while members break; no table.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Serve three replayed members by `quorum up`, break one part after the other, and show what callers got.

    Exit code 1 if a call got neither an answer nor a refusal in time though no process of Triton was touched,
    an answer was wrong, a member abstained that was not broken, service was not back within 10 s, or
    something was left.

    Example: `quorum-bench chaos --part gate --fault kill`
    """
    with errors():
        chosen = [] if requests else _chosen(everything, fault or [], part or [])
        environment = begin()
        with tempfile.TemporaryDirectory(prefix="quorum-chaos-") as folder, World(Path(folder)) as world:
            samples = _soak(world, requests) if requests else []
            rows = list(_rows(world, chosen))
        left = world.left()
    if rows:
        Console().print(table_of(rows), *_LEGEND, sep="\n", highlight=False)
    for name in left:
        print(f"left after the end: {name}")
    if json_file:
        found = {"rows": [asdict(row) for row in rows], "samples": [asdict(sample) for sample in samples]}
        write(json_file, {"environment": environment, **found, "left": left})
    bad = [row for row in rows if problems(row)]
    for row in bad:
        print(f"{row.part}, {row.fault}, {row.rate_per_s:g}/s: {'; '.join(problems(row))}")
        print(*(f"    {text}" for text in row.errors[:4]), sep="\n")
    lost = bool(samples) and bool(samples[-1].wrong or _lost(samples[-1]))
    print(_verdict(rows, len(bad), left, lost))
    if bad or left or lost:
        raise typer.Exit(1)


def _verdict(rows: list[Row], bad: int, left: list[str], lost: bool) -> str:
    """Say in words how it ended."""
    asked = "1 case" if len(rows) == 1 else f"{len(rows)} cases" if rows else "the soak"
    reasons = [f"{bad} of {asked}"] if bad else []
    reasons += ["calls were lost, or answered wrong, though only members broke"] if lost else []
    reasons += ["something is left"] if left else []
    return f"FAILED: {'; '.join(reasons)}" if reasons else f"passed: {asked}"


def _chosen(everything: bool, kinds: list[str], parts: list[str]) -> list[tuple[Fault, float]]:
    cases = list(long_cases() if everything else short_cases())
    chosen = [
        (fault, rate)
        for fault, rate in cases
        if (not kinds or fault.kind in kinds) and (not parts or any(part in fault.name for part in parts))
    ]
    if not chosen:
        known = ", ".join(dict.fromkeys(f"{fault.name}: {fault.kind}" for fault, _ in cases))
        raise ValueError(f"no case has this --part and --fault; there are {known}")
    return chosen


def _rows(world: World, cases: list[tuple[Fault, float]]) -> Iterator[Row]:
    for fault, rate in cases:
        row = run_case(world, fault, rate)
        print(f"{row.part}, {row.fault}, {rate:g}/s: {row.answered} of {row.asked} answered", flush=True)
        yield row


def table_of(rows: list[Row]) -> Table:
    """The rows, one a line, for 80 columns."""
    heads = "/s", "answered", "empty", "refused", "lost", "wrong", "gap", "all", "left"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=0)
    # Only the first may break into two lines: a figure that is cut is a wrong one.
    table.add_column("what breaks", overflow="fold", min_width=10)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True, min_width=len(head))
    for row in rows:
        table.add_row(
            f"{row.part}: {row.fault}", f"{row.rate_per_s:g}", f"{row.answered}/{row.asked}",
            str(row.empty), str(row.refused), str(row.broken + row.late), str(row.wrong), f"{row.gap_s:.1f}",
            "never" if row.whole_s is None else f"{row.whole_s:.1f}", str(row.slots + len(row.left)),
        )  # fmt: skip
    return table


def _soak(world: World, requests: int) -> list[Sample]:
    """Print and return the samples of a soak."""
    samples = []
    print(
        "requests  answered  refused  lost  wrong  faults  memory MiB  handles  processes  shm MiB  log MiB"
    )
    for sample in soak(world, requests):
        samples.append(sample)
        print(
            f"{sample.asked:8}  {sample.outcomes['answered']:8}  {sample.outcomes['refused']:7}"
            f"  {_lost(sample):4}  {sample.wrong:5}  {sample.faults:6}  {sample.memory_bytes / 2**20:10.1f}"
            f"  {sample.handles:7}  {sample.processes:9}  {sample.shared_bytes / 2**20:7.2f}"
            f"  {sample.log_bytes / 2**20:7.2f}",
            flush=True,
        )
    return samples


def _lost(sample: Sample) -> int:
    return sample.outcomes[Outcome.broken] + sample.outcomes[Outcome.late]

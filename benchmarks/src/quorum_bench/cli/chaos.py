# SPDX-License-Identifier: Apache-2.0
"""``quorum-bench chaos``: break a deployment under load and count what callers notice."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from quorum_bench.chaos.cases import Row, long_cases, run_case, short_cases
from quorum_bench.chaos.world import World
from quorum_bench.cli.study_common import JsonFile, begin, errors, write

_HOLD_S = {"stop": 8.0, "memory": 4.0, "block": 3.0, "hang": 3.0}
_HOLD_OTHER_S = 2.0
_MOST_BACK_S = 10.0


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
    json_file: JsonFile = None,
) -> None:
    """Serve three replayed members by `quorum up`, break one part after the other, and show what callers got.

    Exit code 1 if a call got neither an answer nor a refusal in time while the server lived, an answer was
    wrong, service was not back within 10 s, or something was left.

    Example: `quorum-bench chaos --part gate --fault kill`
    """
    with errors():
        environment = begin()
        with tempfile.TemporaryDirectory(prefix="quorum-chaos-") as folder, World(Path(folder)) as world:
            rows = list(_rows(world, everything, fault or [], part or []))
        left = world.left()
    Console().print(table_of(rows))
    for name in left:
        print(f"left after the end: {name}")
    if json_file:
        rows_json = [row.to_json() for row in rows]
        write(json_file, {"environment": environment, "rows": rows_json, "left": left})
    bad = [row for row in rows if problems(row)]
    for row in bad:
        print(f"{row.part}, {row.fault}, {row.rate_per_s:g}/s: {'; '.join(problems(row))}")
        print(*(f"    {text}" for text in row.errors[:4]), sep="\n")
    if bad or left:
        raise typer.Exit(1)


def _rows(world: World, everything: bool, kinds: list[str], parts: list[str]) -> Iterator[Row]:
    for one, rate in long_cases() if everything else short_cases():
        if (kinds and one.kind not in kinds) or (parts and not any(part in one.name for part in parts)):
            continue
        row = run_case(world, one, rate, _HOLD_S.get(one.kind, _HOLD_OTHER_S))
        print(f"{row.part}, {row.fault}, {rate:g}/s: {row.answered} of {row.asked} answered", flush=True)
        yield row


def problems(row: Row) -> list[str]:
    """What a row must not show."""
    found = []
    if row.wrong:
        found.append(f"{row.wrong} wrong answers")
    if row.gap_s > _MOST_BACK_S:
        found.append(f"no answers for {row.gap_s:.1f} s")
    if row.whole_s is None or row.whole_s > _MOST_BACK_S:
        found.append("not every member was back within 10 s")
    if row.slots:
        found.append(f"{row.slots} slots held")
    if row.left:
        found.append(f"left: {', '.join(row.left[:3])}")
    if not row.part.startswith(("server", "stub", "quorum")) and (row.broken or row.late):
        found.append(f"{row.broken + row.late} calls lost, though the server lived")
    return found


def table_of(rows: list[Row]) -> Table:
    """The rows, one a line."""
    table = Table(
        "broken part", "fault", "rate/s", "asked", "answered", "refused", "lost", "wrong", "no answers for",
        "all vote after", "slots", "left",
        title="Answered within 2 s, right against the offline vote of the members that answered",
    )  # fmt: skip
    for row in rows:
        whole = "never" if row.whole_s is None else f"{row.whole_s:.1f} s"
        lost = row.broken + row.late
        table.add_row(
            row.part, row.fault, f"{row.rate_per_s:g}", str(row.asked), str(row.answered), str(row.refused),
            str(lost), str(row.wrong), f"{row.gap_s:.1f} s", whole, str(row.slots), str(len(row.left)),
        )  # fmt: skip
    return table

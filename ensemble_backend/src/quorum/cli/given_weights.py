# SPDX-License-Identifier: Apache-2.0
"""Print how good given weights are, over all and by attribute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Column
from rich.text import Text

from quorum.cli.attributes import show_judgement
from quorum.cli.console import new_table, note, out
from quorum.cli.tasks import show_tasks
from quorum.reports.figures import percent_interval, points_interval

if TYPE_CHECKING:
    import quorum


def show_weights(result: quorum.WeightsEvaluation, name: str) -> None:
    """Print the verdict, the figures over all, those by attribute, and what to mind."""
    out.print(f"{name} ({result.method}): {result.verdict}", highlight=False, soft_wrap=True)
    show_tasks(result.tasks)
    table = new_table(Column("%", overflow="fold"), Column("right [95 %]", no_wrap=True))
    for member, accuracy in result.members.items():
        table.add_row(Text(member), percent_interval(accuracy))
    table.add_section()
    table.add_row(Text("majority"), percent_interval(result.majority))
    table.add_row(Text(name), percent_interval(result.weights))
    table.add_section()
    table.add_row(Text("to majority"), points_interval(result.delta_majority))
    table.add_row(Text(f"to {result.best_member}"), points_interval(result.delta_best_member))
    out.print(table)
    for other, found in result.compared.items():
        show_judgement(found, "weights", other)
    note(
        f"{result.best_member}: the best member on these labels; {result.gold_labels} gold labels of "
        f"{result.products} products; in {result.gold_outside} of these cells no member named the gold"
    )
    if result.trained_on:
        note(
            "weights do better on the labels that they were learned from than on others: judge them on "
            "others, or compare methods without --weights"
        )

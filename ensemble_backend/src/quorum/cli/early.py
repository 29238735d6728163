# SPDX-License-Identifier: Apache-2.0
"""Print what asking members in rows saves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Column
from rich.text import Text

from quorum.cli.console import new_table, note, out
from quorum.reports.figures import percent

if TYPE_CHECKING:
    from quorum.evaluation.early import EarlyEvaluation


def show_early(found: EarlyEvaluation) -> None:
    """Print a row for each way of asking."""
    heads = ("asked", "calls", "other\nanswers", "right", "ECE")
    figures = (Column(head, no_wrap=True) for head in heads)
    table = new_table("asked in rows, %", *figures, "worst attribute")
    for row in found.results:
        worst = Text(f"{row.worst} {100 * row.worst_flips:.1f}" if row.flips and row.worst else "-")
        shares = (row.asked, row.calls, row.flips, row.accuracy, row.ece)
        table.add_row(row.how, *(percent(share) for share in shares), worst)
    out.print(table)
    note(
        f"Asked: questions, one per member and cell ({found.cells} cells, {found.members} members). Calls: "
        f"one per member and product ({found.products}). Other answers: than all members give."
    )
    note(
        "Questions and answers are counted as if each attribute were asked alone. With lazy.whole_questions "
        "a member that is called answers all attributes of the product: the share of questions asked is then "
        "about that of the calls, and settled attributes get these votes too."
    )
    if found.not_supported:
        risks = ", ".join(f"{risk:.1%}" for risk in found.not_supported)
        note(f"these votes do not support a flip risk of {risks}: members are asked until nothing can change")

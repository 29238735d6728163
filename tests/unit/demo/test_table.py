# SPDX-License-Identifier: Apache-2.0
"""The demo's table: shares, intervals and the gain of the last row."""

from __future__ import annotations

import io

from demo_table import Row, interval, show_attributes, show_table, verdict
from rich.console import Console


def row(name: str, right: list[list[bool]]) -> Row:
    share = {name: sum(hits) / len(hits) for name, hits in zip(("color", "brand"), right, strict=False)}
    return Row(name, interval(right), share, right, calls=3, latencies_ms=[1.0, 3.0])


def test_the_interval_of_equal_cells_is_a_point() -> None:
    found = interval([[True] * 8])
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_the_verdict_is_against_the_best_single_and_majority() -> None:
    rows = [
        row("a alone", [[True, False, False, False]]),
        row("b alone", [[True, True, False, False]]),
        row("majority (version 1)", [[True, True, True, False]]),
        row("learned", [[True, True, True, True]]),
        row("learned again", [[True, True, False, False]]),
    ]
    first, second = verdict(rows).splitlines()
    assert first.startswith("learned: +50.0 points")
    assert "on b alone" in first
    assert "+25.0 points" in first
    assert "on majority (version 1)" in first
    assert second.startswith("learned again: +0.0 points")
    assert show_table(rows).row_count == 5


def test_the_verdict_names_the_attribute_that_lost_most() -> None:
    rows = [
        row("a alone", [[True, False], [True, False]]),
        row("majority (version 1)", [[False, False], [True, True]]),
        row("learned", [[True, True], [True, False]]),
    ]
    assert "at worst brand, -50.0 points" in verdict(rows)


def test_attributes_have_a_column_each_and_the_best_are_marked() -> None:
    rows = [row("a alone", [[True, False], [True, True]]), row("learned", [[True, True], [True, False]])]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(show_attributes(rows))
    text = console.export_text()
    for part in ("color", "brand", "50.0", "100.0"):
        assert part in text

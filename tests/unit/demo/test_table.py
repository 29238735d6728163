# SPDX-License-Identifier: Apache-2.0
"""The demo's table: shares, intervals and the gain of the last row."""

from __future__ import annotations

from demo_table import Row, interval, show_table, verdict


def row(name: str, right: list[list[bool]]) -> Row:
    hits = [hit for column in right for hit in column]
    share = {"color": sum(hits) / len(hits)}
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
    ]
    text = verdict(rows)
    assert text.startswith("learned: +50.0 points")
    assert "on b alone" in text
    assert "+25.0 points" in text
    assert "on majority (version 1)" in text
    assert show_table(rows).row_count == 4

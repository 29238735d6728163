# SPDX-License-Identifier: Apache-2.0
"""The demo's table: shares, intervals and the gain of the last row."""

from __future__ import annotations

import io

from demo_table import (
    LAZY_ROW,
    Row,
    changes,
    compare_lazy,
    interval,
    show_attributes,
    show_changes,
    show_table,
    verdict,
    warning,
)
from rich.console import Console

from quorum_client import Answer, Extraction, Status, Vote


def row(name: str, right: list[list[bool]]) -> Row:
    share = {name: sum(hits) / len(hits) for name, hits in zip(("color", "brand"), right, strict=False)}
    return Row(
        name, interval(right), share, right, calls=3.0, tokens=230.0, llm_ms=4.5, latencies_ms=[1.0, 3.0]
    )


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
    assert "over b alone" in first
    assert "+25.0 points" in first
    assert "over majority (version 1)" in first
    assert second.startswith("learned again: 0.0 points")
    assert show_table(rows).row_count == 5


def test_the_verdict_names_the_attribute_that_lost_most() -> None:
    rows = [
        row("a alone", [[True, False], [True, False]]),
        row("majority (version 1)", [[False, False], [True, True]]),
        row("learned", [[True, True], [True, False]]),
    ]
    (line,) = verdict(rows).splitlines()
    best, majority = line.split("; ")
    assert "over a alone, least on brand: 0.0 points" in best
    assert "over majority (version 1), least on brand: -50.0 points" in majority


def test_each_version_is_compared_with_majority_and_with_what_was_live_before() -> None:
    good, bad = [True] * 40, [False] * 25 + [True] * 15
    rows = [
        row("a alone", [good, good]),
        row("majority (version 1)", [bad, good]),
        row("learned, no gold (version 2)", [bad, good]),
        row("learned, 100 gold (version 3)", [good, bad]),
    ]
    found = changes(rows)
    assert list(found) == ["version 2 to version 1", "version 3 to version 1", "version 3 to version 2"]
    verdicts = [[c.verdict for c in judged.by_attribute.values()] for judged in found.values()]
    assert verdicts == [["unclear", "unclear"], ["worse", "better"], ["worse", "better"]]
    assert warning(rows).startswith("version 3 is worse than version 1 on brand (-62.5 points [")
    assert warning(rows[:3]) == ""
    console = Console(width=80, markup=False, file=(shown := io.StringIO()))
    console.print(show_changes(rows))
    line = next(line for line in shown.getvalue().splitlines() if line.strip().startswith("brand"))
    assert line.count("-62.5 [-") == 2
    assert "…" not in shown.getvalue()


def test_attributes_have_a_column_each() -> None:
    rows = [row("a alone", [[True, False], [True, True]]), row("learned", [[True, True], [True, False]])]
    console = Console(width=80, markup=False, file=(shown := io.StringIO()))
    console.print(show_attributes(rows))
    assert [line.split() for line in shown.getvalue().splitlines() if "." in line] == [
        ["a", "alone", "50.0", "100.0"],
        ["learned", "100.0", "50.0"],
    ]


def test_six_attributes_and_long_names_fit_a_terminal() -> None:
    names = ("brand", "color", "material", "size", "gender", "age_group")
    llms = ("a-long-name-of-an-llm-of-which-there-are-versions-1 alone", "demo-qwen2 alone")
    rows = [
        Row(llm, interval([[True]]), dict.fromkeys(names, 1.0), [[True]], 1.0, 82.0, 4.5, [1.0])
        for llm in llms
    ]
    console = Console(width=80, markup=False, file=(shown := io.StringIO()))
    console.print(show_attributes(rows))
    lines = shown.getvalue().splitlines()
    assert sum(line.split()[-6:] == ["100.0"] * 6 for line in lines) == 2
    assert "brand color material size gender age group" in " ".join(shown.getvalue().split())
    assert "…" not in shown.getvalue()
    assert "demo-qwen2 alone" in shown.getvalue()


def test_the_lazy_row_is_shown_but_is_no_version() -> None:
    versions = [
        row("a alone", [[True, False]]),
        row("majority (version 1)", [[True, False]]),
        row("learned, 100 gold (version 3)", [[True, True]]),
    ]
    rows = [*versions, row(LAZY_ROW, [[True, False]])]
    assert (verdict(rows), list(changes(rows))) == (verdict(versions), list(changes(versions)))
    console = Console(width=80, markup=False, file=(shown := io.StringIO()))
    console.print(show_table(rows))
    line = next(line for line in shown.getvalue().splitlines() if "lazy" in line)
    assert line.split()[-5:] == ["6", "3.00", "230", "2", "3"], line
    assert "…" not in shown.getvalue()


def answered(value: str, *votes: str | None) -> Extraction:
    """One answer, by members of which None was not asked."""
    cast = [
        Vote(f"m{at}", vote, Status.NOT_ASKED if vote is None else Status.ANSWERED)
        for at, vote in enumerate(votes)
    ]
    return Extraction("r", (Answer("color", value, 0.9, tuple(cast)),), 3, 0.1)


def test_cells_that_differ_are_counted_with_the_reason() -> None:
    full = [answered("red", "red", "red", "blue"), answered("red", "red", "blue", "red")]
    same = [answered("red", "red", "red", None), answered("red", "red", "blue", "red")]
    assert compare_lazy(full, same).endswith("the full channel's in 2 of 2 cells, with 83.3% of the votes")
    other = [answered("red", "red", "red", None), answered("blue", "red", "blue", "blue")]
    assert "in 1 of 2 cells (in 1 of the other 1, an LLM" in compare_lazy(full, other)
    wrong = [answered("blue", "red", "red", None), answered("red", "red", "blue", "red")]
    assert "in 1 of 2 cells (in 0 of the other 1, an LLM" in compare_lazy(full, wrong)

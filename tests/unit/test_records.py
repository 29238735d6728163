# SPDX-License-Identifier: Apache-2.0
"""The JSON form of results."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from quorum.records import Record, plain


@dataclass(frozen=True)
class Plain:
    share: float
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Inner(Record):
    where: Path
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Outer(Record):
    parts: dict[int, Inner]
    pairs: tuple[Plain, ...]
    names: list[str] = field(default_factory=list)


def test_fields_stand_under_their_names_without_those_at_their_default() -> None:
    assert Inner(Path("a/b")).to_json() == {"where": "a/b"}
    assert Inner(Path("a"), "why").to_json() == {"where": "a", "reason": "why"}


@dataclass(frozen=True, slots=True)
class Counted(Record):
    found: int = 0
    done: bool = False


def test_a_count_of_zero_and_a_no_are_shown() -> None:
    assert Counted().to_json() == {"found": 0, "done": False}


def test_a_value_without_a_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="no JSON form"):
        plain({"members": {"a", "b"}})


def test_what_a_record_holds_is_plain_too() -> None:
    outer = Outer({1: Inner(Path("a"))}, (Plain(math.nan), Plain(0.5, "x")))
    assert json.loads(json.dumps(outer.to_json(), allow_nan=False)) == {
        "parts": {"1": {"where": "a"}},
        "pairs": [{"share": None, "note": None}, {"share": 0.5, "note": "x"}],
        "names": [],
    }
    assert plain([outer.parts[1]]) == [{"where": "a"}]

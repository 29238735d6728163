# SPDX-License-Identifier: Apache-2.0
"""Cells that a spreadsheet would run as formulas."""

from __future__ import annotations

import pytest

from quorum.safe_text import safe_cell


@pytest.mark.parametrize(
    "start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"]
)
def test_what_starts_like_a_formula_is_marked_as_text(start: str) -> None:
    assert safe_cell(f"{start}1+1") == f"'{start}1+1"
    assert safe_cell(f"a{start}1+1") == f"a{start}1+1"

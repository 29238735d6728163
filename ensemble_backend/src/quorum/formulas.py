# SPDX-License-Identifier: Apache-2.0
"""Escape texts in CSV that a spreadsheet would run as formulas."""

from __future__ import annotations

STARTS = ("=", "+", "-", "@", "\t", "\r")
"""Starts of a formula, by OWASP, CSV Injection."""


def escape_formula(text: str) -> str:
    """Put an apostrophe, which marks text, in front of a text that starts like a formula."""
    return "'" + text if text.startswith(STARTS) else text

# SPDX-License-Identifier: Apache-2.0
"""Make texts of others harmless to spreadsheets and terminals."""

from __future__ import annotations

import re

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Starts of what a spreadsheet runs as a formula, by OWASP, CSV Injection; the last four are the full-width
forms of the first, which spreadsheets of East Asia take for the same."""
_CONTROLS = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
_CONTROL = re.compile(f"[{_CONTROLS}]")
_UNSAFE = re.compile(rf"[{_CONTROLS}\r\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls of terminals but tab and newline, of direction (Unicode UAX 9), and surrogates."""


def safe_cell(text: str) -> str:
    """Put an apostrophe, which marks text, before what starts like a formula; controls become U+FFFD."""
    text = _CONTROL.sub("\ufffd", text)
    return "'" + text if text.startswith(FORMULA_STARTS) else text


def safe_to_show(text: str) -> str:
    """Leave out what steers a terminal, reorders a line or cannot be written; tabs and newlines stay."""
    return _UNSAFE.sub("", text)


def safe_json(text: str) -> str:
    """Escape in JSON what :func:`safe_to_show` leaves out: the values stay the same."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)

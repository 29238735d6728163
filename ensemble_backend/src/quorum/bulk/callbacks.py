# SPDX-License-Identifier: Apache-2.0
"""Callbacks by which a long call reports to its caller while it runs."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Takes the number of listings done and the number of all; first called with 0 done."""

Note = Callable[[str], None]
"""Takes a remark for people, such as that an attribute is not in the catalogue."""


def ignore(*_: object) -> None:
    """Report to no one: the default of every callback."""

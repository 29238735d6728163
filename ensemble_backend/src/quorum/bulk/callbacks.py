# SPDX-License-Identifier: Apache-2.0
"""Callbacks by which a long call reports to its caller while it runs."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with the numbers of finished and of all listings; first with 0 finished."""

Note = Callable[[str], None]
"""Called with a remark for people."""


def ignore(*_: object) -> None:
    """Do nothing; the default of every callback."""

# SPDX-License-Identifier: Apache-2.0
"""Remove what dead servers of this user left on the machine."""

from __future__ import annotations

from quorum.server.leftovers import Removed, sweep_killed


def clean() -> Removed:
    """End processes that outlived their server, and remove shared memory and scratch files of dead servers.

    Servers that run, of this deployment or another, and files of other users are left alone. Every start of a
    server does the same.
    """
    return sweep_killed()

# SPDX-License-Identifier: Apache-2.0
"""Import what commands need, in the process that others are forked from."""

from __future__ import annotations

import os

# Consoles take their width when they are made.
os.environ["COLUMNS"] = "200"

import quorum
import quorum.cli

for name in quorum.__all__:
    getattr(quorum, name)

# SPDX-License-Identifier: Apache-2.0
"""The distribution ``quorum-demo``: this folder, as ``quorum init --demo`` and ``quorum demo`` find it."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
"""Holds ``models/NAME``, ``attributes.json``, ``listings.jsonl`` and ``demo_run.py``."""

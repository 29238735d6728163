# SPDX-License-Identifier: Apache-2.0
"""Name the command that installs an optional part of quorum, in a checkout and outside of one."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
"""The checkout that this code runs from; in an installed package no such folder has ``scripts/setup.py``."""
_TARGETS = {"hf": "setup-hf", "onnxruntime": "setup-tune", "tune": "setup-tune", "ray": "ray-env"}


def how_to_install(extra: str) -> str:
    """The command for an extra of the distribution ``quorum``, as in "`pip install 'quorum[hf]'`"."""
    if (CHECKOUT / "scripts" / "setup.py").is_file():
        return f"`make {_TARGETS.get(extra, 'setup')}`"
    return f"`pip install 'quorum[{extra}]'`"

# SPDX-License-Identifier: Apache-2.0
"""Check a deployment before it is applied: its files, and settings that take a restart."""

from __future__ import annotations

from quorum.deployment.schema import Deployment
from quorum.operations.describe import check_files
from quorum.server.runfile import find_running


def check_local_files(deployment: Deployment) -> None:
    """Raise MisfitError where a file that the server of this machine would load cannot be used."""
    # Servers elsewhere have files of their own.
    if find_running(deployment) is not None:
        check_files(deployment)


def changes_of(name: str, old: object, new: object) -> list[str]:
    """How a setting changes, or each key of a section, in words."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in dict.fromkeys((*old, *new)) if old.get(key) != new.get(key)]
        return [line for key in keys for line in changes_of(f"{name}.{key}", old.get(key), new.get(key))]
    if old is None:
        return [f"{name} added"]
    return [f"{name} removed" if new is None else f"{name} {old} -> {new}"]

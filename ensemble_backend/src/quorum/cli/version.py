# SPDX-License-Identifier: Apache-2.0
"""``quorum --version``: which quorum this is, and on what it runs."""

from __future__ import annotations

from typing import Annotated

import typer

import quorum
from quorum.cli.console import out


def _show(wanted: bool) -> None:
    if wanted:
        for name, version in quorum.versions().items():
            out.print(f"{name} {version}", highlight=False, soft_wrap=True)
        raise typer.Exit


def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show, is_eager=True, help="Print versions of quorum and its parts."
        ),
    ] = False,
) -> None:
    """Take the options of `quorum` itself."""

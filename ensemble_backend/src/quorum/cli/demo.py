# SPDX-License-Identifier: Apache-2.0
"""``quorum demo``: run the demo of a checkout, ``examples/demo/demo_run.py``."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

import quorum
from quorum.cli.console import (
    DEPLOY,
    CommandError,
    DeployOption,
    JsonOption,
    ProgressBar,
    note,
    out,
    print_json,
)
from quorum.cli.signals import interrupt_once

_FOLDER = Path("examples/demo")
_MODULE = "demo_run"


def demo(
    deploy: DeployOption = DEPLOY,
    listings: Annotated[Path, typer.Option(help="Listings with gold, JSONL.")] = _FOLDER / "listings.jsonl",
    report: Annotated[Path, typer.Option(help="HTML report to write.")] = Path(".quorum/demo/report.html"),
    json: JsonOption = False,
) -> None:
    """Start Triton, let the LLMs vote, learn weights, redeploy them under load, and show the gain.

    Runs on separate ports and a copy of the model repository; stops everything and leaves only the report.

    Example: `quorum demo`
    """
    interrupt_once()
    spec = quorum.load_deployment(deploy)
    result = _load_demo(spec.root).run(spec, listings, report, note=note, bar=ProgressBar)
    if json:
        print_json(result)
    else:
        if result.warning():
            note(Text(result.warning(), "bold red"))
        out.print(*result.tables())
        note(result.verdict())
    if result.failed or result.left:
        leftovers = result.left or "nothing"
        raise CommandError(f"{result.failed} requests failed during the redeploys; left behind: {leftovers}")
    note("all servers stopped, nothing left behind")


def _load_demo(root: Path) -> Any:
    """Import the demo from the checkout of the deployment or of the working directory."""
    here = Path.cwd()
    for base in (root, here, *here.parents):
        folder = (base / _FOLDER).resolve()
        if (folder / f"{_MODULE}.py").is_file():
            sys.path.insert(0, str(folder))
            return import_module(_MODULE)
    raise CommandError(
        f"the demo is part of the source tree, and there is no {_FOLDER}/{_MODULE}.py at {root}, here or"
        " above; run `quorum demo` in a checkout of the repository"
    )

# SPDX-License-Identifier: Apache-2.0
"""``quorum demo``: run ``demo_run.py`` of a checkout's ``examples/demo``, or of ``quorum-demo``."""

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
from quorum.extras import how_to_install
from quorum.operations.demo_files import demo_folder

_FOLDER = Path("examples/demo")
_MODULE = "demo_run"


def demo(
    deploy: DeployOption = DEPLOY,
    listings: Annotated[
        Path | None, typer.Option(help="Listings with gold, JSONL; default: the demo's own.")
    ] = None,
    report: Annotated[Path, typer.Option(help="HTML report to write.")] = Path(".quorum/demo/report.html"),
    json: JsonOption = False,
) -> None:
    """Start Triton, let the LLMs vote, learn weights, redeploy them under load, and show the gain.

    Runs on separate ports and a copy of the model repository; stops everything and leaves only the report.

    Example: `quorum demo`
    """
    interrupt_once()
    spec = quorum.load_deployment(deploy)
    folder = _find_demo(spec.root)
    sys.path.insert(0, str(folder))
    given = listings or folder / "listings.jsonl"
    result: Any = import_module(_MODULE).run(spec, given, report, note=note, bar=ProgressBar)
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


def _find_demo(root: Path) -> Path:
    """The demo of the checkout of the deployment or the working directory, else the installed one."""
    here = Path.cwd()
    for base in (root, here, *here.parents):
        folder = (base / _FOLDER).resolve()
        if (folder / f"{_MODULE}.py").is_file():
            return folder
    if (installed := demo_folder()) is None:
        raise CommandError(
            f"there is no {_FOLDER}/{_MODULE}.py at {root}, here or above, and the package quorum-demo is not"
            f" installed; run {how_to_install('demo')}, or work in a checkout"
        )
    return installed

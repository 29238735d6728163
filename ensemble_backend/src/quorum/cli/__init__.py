# SPDX-License-Identifier: Apache-2.0
"""The command ``quorum``; the only layer that prints."""

from __future__ import annotations

import typer

from quorum.cli import ask, build, canary, demo, describe, evaluate, label, learn, plan, probe, rollout, serve

app = typer.Typer(
    name="quorum",
    help="Several LLMs in one Triton server vote on one answer, by learned weights.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (describe, plan, build, serve, probe, ask, label, learn, evaluate, rollout, canary, demo):
    module.register(app)


def main() -> None:
    """Entry point of the console script."""
    app()

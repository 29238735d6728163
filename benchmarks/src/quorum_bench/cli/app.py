# SPDX-License-Identifier: Apache-2.0
"""Assemble the commands of ``quorum-bench``."""

from __future__ import annotations

import typer

from quorum_bench.cli import chaos, compare, gpu_check, run, study

app = typer.Typer(
    name="quorum-bench",
    help="What a quorum deployment costs and carries: measure it, read it, compare two measurements.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (run, compare, study, chaos, gpu_check):
    module.register(app)

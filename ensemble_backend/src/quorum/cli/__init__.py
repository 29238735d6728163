# SPDX-License-Identifier: Apache-2.0
"""The command ``quorum``; the only layer that prints."""

from __future__ import annotations

import os

# OpenBLAS reads it as NumPy is loaded. Learning solves small systems, whose threads wait for each other.
_given = os.environ.get("OPENBLAS_NUM_THREADS")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import typer  # noqa: E402

from quorum.cli import (  # noqa: E402
    apply,
    ask,
    build,
    canary,
    demo,
    describe,
    distill,
    evaluate,
    evaluate_retrieval,
    export,
    extract,
    flywheel,
    gateway,
    index,
    init,
    judge,
    label,
    learn,
    plan,
    probe,
    recommend,
    review,
    rollout,
    serve,
    tune,
    tune_merge,
    version,
    votes,
)
from quorum.cli.console import friendly  # noqa: E402

if _given is None:
    # Not for the programs that commands start.
    os.environ.pop("OPENBLAS_NUM_THREADS")

app = typer.Typer(
    name="quorum",
    help="Several LLMs in one Triton server vote on one answer, by learned weights.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(friendly(version.root))
for command in (
    init.init,
    *(describe.validate, describe.render, plan.plan, build.build, serve.up, serve.status, serve.clean),
    probe.probe,
    describe.schema,
    *(ask.ask, extract.extract, judge.judge, recommend.recommend),
    *(label.label, review.review, learn.learn, learn.drift, evaluate.evaluate),
    distill.distill,
    *(rollout.publish, rollout.promote, rollout.rollback, rollout.retire, rollout.history, rollout.diff),
    *(apply.apply, apply.sync),
    index.index,
    flywheel.flywheel,
    demo.demo,
):
    app.command()(friendly(command))
canary.app.command("set")(friendly(canary.set_))
canary.app.command()(friendly(canary.off))
canary.app.command()(friendly(canary.report))
app.add_typer(canary.app, name="canary")
votes.app.command()(friendly(votes.info))
votes.app.command()(friendly(votes.merge))
votes.app.command()(friendly(votes.drop))
votes.app.command()(friendly(votes.rename))
votes.app.command()(friendly(votes.normalise))
app.add_typer(votes.app, name="votes")
export.app.command()(friendly(export.delta))
export.app.command()(friendly(export.iceberg))
app.add_typer(export.app, name="export")
gateway.app.callback(invoke_without_command=True)(friendly(gateway.gateway))
gateway.keys.command()(friendly(gateway.add))
gateway.keys.command("list")(friendly(gateway.list_))
gateway.keys.command()(friendly(gateway.remove))
gateway.app.add_typer(gateway.keys, name="keys")
app.add_typer(gateway.app, name="gateway")
app.command("evaluate-retrieval")(friendly(evaluate_retrieval.evaluate_retrieval))
tune.app.command()(friendly(tune.train))
tune.app.command()(friendly(tune_merge.merge))
app.add_typer(tune.app, name="tune")


def main() -> None:
    """Entry point of the console script."""
    app()

# SPDX-License-Identifier: Apache-2.0
"""``quorum validate | render``: from what is wanted to what Triton serves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quorum.capacity.preflight import preflight
from quorum.cli.console import (
    DEPLOY,
    CommandError,
    DeployOption,
    JsonOption,
    friendly,
    note,
    print_json,
    spec_of,
)
from quorum.deployment.schema import Deployment
from quorum.repository.render import RenderPlan, plan_render, reset_weights
from quorum.repository.render import render as render_repository
from quorum.runtimes.option_base import find_missing
from quorum.server.runfile import find_running


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(validate)
    app.command()(render)


@friendly
def validate(
    deploy: DeployOption = DEPLOY,
    machine: Annotated[
        bool, typer.Option("--preflight", help="Also hold its GPU members against this machine.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Check deploy.yaml and the files it names; nothing is changed.

    With --preflight also: do engines fit this GPU and this TensorRT-LLM, do all members fit in its memory,
    are LoRA adapters of their base. `quorum up` does the same before it starts.

    Example: `quorum validate --deploy deploy.yaml`

    Example: `quorum validate --deploy deploy.gpu.yaml --preflight`
    """
    spec = spec_of(deploy)
    missing = [
        f"{deploy}: members[{i}].options.{key}: {problem}"
        for i, member in enumerate(spec.members)
        for key, problem in find_missing(member.options, spec.root)
    ]
    if missing:
        raise CommandError("\n".join(missing))
    if machine:
        refuse_misfits(spec)
    if json:
        print_json({"valid": True, "members": spec.member_names, "attributes": list(spec.attributes)})
    else:
        note(
            f"{deploy}: valid; members {', '.join(spec.member_names)}; asked for {', '.join(spec.attributes)}"
        )


def refuse_misfits(spec: Deployment) -> None:
    """Hold the GPU members against this machine.

    Raises:
        CommandError: Something does not fit; one line per problem.
    """
    found = preflight(spec)
    for line in found.notes:
        note(f"note: {line}")
    if found.problems:
        raise CommandError("\n".join(found.problems))
    if found.checked:
        note(f"preflight: {', '.join(found.checked)} fit this machine")


@friendly
def render(
    deploy: DeployOption = DEPLOY,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if anything differs.")
    ] = False,
    reset: Annotated[
        bool, typer.Option("--reset-weights", help="Start again from equal weights, as a new version.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write the model repository that deploy.yaml describes.

    Which versions of the weights exist, and which one a channel answers with, is kept as it is. When the
    members have changed and no version fits them any more, `--reset-weights` starts again from equal weights.

    Example: `quorum render && git diff model_repository`
    """
    spec = spec_of(deploy)
    if reset and not check:
        if find_running(spec):
            raise CommandError("this deployment is being served; stop it before resetting its weights")
        note(f"both channels start from version {reset_weights(spec)}: equal weights")
    plan = plan_render(spec) if check else render_repository(spec)
    if json:
        print_json(
            {
                "clean": plan.is_clean,
                "write": sorted(plan.write),
                "remove": plan.remove,
                "misfits": plan.misfits,
            }
        )
    else:
        _tell(plan, spec.repository_path, check)
        if not check and not plan.is_clean and find_running(spec):
            note("this deployment is being served: the change takes effect at the next `quorum up`")
    if plan.misfits or (check and not plan.is_clean):
        raise typer.Exit(1)


def _tell(plan: RenderPlan, repository: Path, check: bool) -> None:
    for name in sorted(plan.write):
        note(f"{'differs' if check else 'wrote'}: {repository / name}")
    for name in plan.remove:
        note(f"{'not in deploy.yaml' if check else 'removed'}: {repository / name}")
    for version, reason in plan.misfits.items():
        note(f"version {version} cannot be served: {reason}")
    if plan.misfits:
        note(
            "take the change back, or learn again from the votes you have (`quorum learn VOTES`), start from "
            "equal weights (`quorum render --reset-weights`) and publish what was learned"
        )
    if plan.is_clean:
        note(f"{repository} is what deploy.yaml says")
    elif check:
        note("run `quorum render`")

# SPDX-License-Identifier: Apache-2.0
"""``quorum validate | render``: from what is wanted to what Triton serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import quorum
from quorum.cli.console import (
    DEPLOY,
    CommandError,
    DeployOption,
    JsonOption,
    friendly,
    load,
    note,
    print_json,
)

if TYPE_CHECKING:
    from quorum import Deployment
    from quorum.repository.render import Difference


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
    spec = load(deploy)
    quorum.validate(spec)
    if machine:
        refuse_misfits(spec)
    if json:
        print_json({"valid": True, "members": spec.member_names, "attributes": list(spec.attributes)})
    else:
        note(
            f"{deploy}: valid; members {', '.join(spec.member_names)}; asked for {', '.join(spec.attributes)}"
        )


def refuse_misfits(spec: Deployment) -> None:
    """Check that the GPU members fit this machine.

    Raises:
        CommandError: Something does not fit; one line per problem.
    """
    found = quorum.check_machine(spec)
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
    spec = load(deploy)
    report = quorum.render(spec, check=check, reset_weights=reset)
    found = report.difference
    if report.restarted_from is not None:
        note(f"both channels start from version {report.restarted_from}: equal weights")
    if json:
        print_json(report.to_json())
    else:
        _tell(found, spec.repository_path, check)
        if not check and not found.is_clean and report.served:
            note("this deployment is being served: the change takes effect at the next `quorum up`")
    if found.misfits or (check and not found.is_clean):
        raise typer.Exit(1)


def _tell(found: Difference, repository: Path, check: bool) -> None:
    for name in sorted(found.write):
        note(f"{'differs' if check else 'wrote'}: {repository / name}")
    for name in found.remove:
        note(f"{'not in deploy.yaml' if check else 'removed'}: {repository / name}")
    for version, reason in found.misfits.items():
        note(f"version {version} cannot be served: {reason}")
    if found.misfits:
        note(
            "take the change back, or learn again from the votes you have (`quorum learn VOTES`), start from "
            "equal weights (`quorum render --reset-weights`) and publish what was learned"
        )
    if found.is_clean:
        note(f"{repository} is what deploy.yaml says")
    elif check:
        note("run `quorum render`")

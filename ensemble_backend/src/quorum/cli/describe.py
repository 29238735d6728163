# SPDX-License-Identifier: Apache-2.0
"""``quorum validate | render | build``: from what is wanted to what Triton serves."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

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
from quorum.engines import BuildError, build_openvino
from quorum.repository.render import RenderPlan, plan_render, reset_weights
from quorum.repository.render import render as render_repository
from quorum.runtimes.options import find_missing
from quorum.server.runfile import find_running

_BUILD_PYTHON = Path(".venv-build/bin/python")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(validate)
    app.command()(render)
    app.command()(build)


@friendly
def validate(deploy: DeployOption = DEPLOY, json: JsonOption = False) -> None:
    """Check deploy.yaml and the files it names; nothing is changed.

    Example: `quorum validate --deploy deploy.yaml`
    """
    spec = spec_of(deploy)
    missing = [
        f"{deploy}: members[{i}].options.{key}: {problem}"
        for i, member in enumerate(spec.members)
        for key, problem in find_missing(member.runtime, member.options, spec.root)
    ]
    if missing:
        raise CommandError("\n".join(missing))
    if json:
        print_json({"valid": True, "members": spec.member_names, "attributes": list(spec.attributes)})
    else:
        note(
            f"{deploy}: valid; members {', '.join(spec.member_names)}; asked for {', '.join(spec.attributes)}"
        )


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
        note("take the change back, or start again from equal weights: `quorum render --reset-weights`")
    if plan.is_clean:
        note(f"{repository} is what deploy.yaml says")
    elif check:
        note("run `quorum render`")


@friendly
def build(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a Hugging Face causal-LM checkpoint.")],
    out: Annotated[Path, typer.Argument(help="Folder to make; name it as `options.model` in deploy.yaml.")],
    weight_format: Annotated[
        str, typer.Option(help="Precision of the weights: fp32, fp16, int8 or int4.")
    ] = "int8",
    python: Annotated[
        Path, typer.Option(help="Python of the build environment (`make build-env`).")
    ] = _BUILD_PYTHON,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
    json: JsonOption = False,
) -> None:
    """Turn a local Hugging Face checkpoint into what the `openvino` runtime serves.

    Example: `quorum build ~/checkpoints/Qwen2.5-0.5B-Instruct models/qwen`
    """
    formats: dict[str, Literal["fp32", "fp16", "int8", "int4"]] = {
        "fp32": "fp32",
        "fp16": "fp16",
        "int8": "int8",
        "int4": "int4",
    }
    if weight_format not in formats:
        raise CommandError(f"--weight-format {weight_format!r}: use one of {', '.join(formats)}")
    note(f"building {out} from {checkpoint} ({weight_format}); this takes a minute")
    try:
        manifest = build_openvino(
            checkpoint,
            out,
            weight_format=formats[weight_format],
            python=python,
            force=force,
            on_line=None if json else lambda line: note(Text(f"  {line}", "dim")),
        )
    except BuildError as error:
        raise CommandError(str(error)) from error
    if json:
        print_json(asdict(manifest))
        return
    note(f"built {out}. To serve it, put this into deploy.yaml under `members:` and run `quorum render`:\n")
    note(f"  - name: {out.name.lower()}\n    runtime: openvino\n    options: {{model: {out}}}")

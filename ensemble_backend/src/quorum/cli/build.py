# SPDX-License-Identifier: Apache-2.0
"""``quorum build``: build models and engines from checkpoints."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

import quorum
from quorum.build.openvino import BUILD_PYTHON, WeightFormat
from quorum.cli.console import CommandError, JsonOption, note, out, print_json

if TYPE_CHECKING:
    from quorum import Deployment, MemberBuild, Tools
    from quorum.build.trtllm import BuildSteps, Step

_TOOLS = quorum.Tools()


def build(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[CHECKPOINT|MEMBER]",
            help="Folder of a Hugging Face checkpoint; or, with --spec, a member (default: all of them).",
        ),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Argument(metavar="[OUT]", help="For a checkpoint: folder to make, for `options.model`."),
    ] = None,
    spec: Annotated[
        Path | None, typer.Option("--spec", "--deploy", "-d", help="Build members of this deployment.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --spec: print every command, run none.")
    ] = False,
    weight_format: Annotated[WeightFormat, typer.Option(help="For a checkpoint: precision.")] = "int8",
    python: Annotated[
        str | None,
        typer.Option(
            help="Python of the build environment (`make build-env`), or, with --spec, TensorRT-LLM's."
        ),
    ] = None,
    examples: Annotated[
        Path, typer.Option(help="With --spec: TensorRT-LLM's folder of examples.")
    ] = _TOOLS.examples,
    calibration: Annotated[
        str, typer.Option(help="With --spec: dataset for quantisation, a folder or a Hugging Face name.")
    ] = _TOOLS.calibration,
    force: Annotated[
        bool, typer.Option("--force", help="For a checkpoint: replace OUT if it exists.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Build models and engines from checkpoints.

    From a checkpoint into a folder: a model for the `openvino` runtime, on a CPU. With --spec, inside the
    Triton container on the GPU that will serve: compiled engines for members of runtime `engine`, and
    quantised checkpoints for members of `tensorrt_llm` whose `model` ends in `-fp8` or the like. Interrupted
    builds resume; finished ones are skipped.

    Example: `quorum build ~/checkpoints/Qwen2.5-0.5B-Instruct models/qwen`

    Example: `quorum build llama --spec deploy.engine.yaml --dry-run`
    """
    if spec is not None:
        if target is not None:
            raise CommandError(
                "OUT and --spec: the deployment says where a member's engine goes; leave OUT out"
            )
        tools = quorum.Tools(examples, python or _TOOLS.python, calibration=calibration)
        _members(quorum.load_deployment(spec), what, tools, dry_run, json)
    elif what is None or target is None:
        raise CommandError("name a checkpoint and a folder to make, or a deployment with --spec")
    elif dry_run:
        raise CommandError("--dry-run goes with --spec; a checkpoint is built by one exporter call")
    else:
        _openvino(Path(what), target, weight_format, python, force, json)


def _members(spec: Deployment, name: str | None, tools: Tools, dry_run: bool, json: bool) -> None:
    builds = {}
    for build in quorum.member_builds(spec, name, tools):
        builds[build.member] = build
        if build.steps and not dry_run:
            builds[build.member] = _compile(build, build.steps, tools, json)
        elif build.steps and not json:
            _show(build.steps)
        elif not json:
            note(f"{build.member}: nothing to build; {build.reason}")
    if json:
        print_json(builds)


def _show(steps: BuildSteps) -> None:
    for number, step in enumerate(steps.steps, 1):
        note(Text(f"# {steps.member}, step {number} of {len(steps.steps)}: {step.name}", "dim"))
        out.print(shlex.join(step.command), soft_wrap=True, highlight=False)
    note(Text(f"# then {steps.fresh} moves to {steps.engine}", "dim"))


def _compile(build: MemberBuild, steps: BuildSteps, tools: Tools, json: bool) -> MemberBuild:
    def on_step(number: int, step: Step, done: bool) -> None:
        end = " (done)" if done else ""
        note(f"{build.member}, step {number + 1} of {len(steps.steps)}: {step.name}{end}")

    built = quorum.build_member(build, tools, on_step=on_step, on_line=None if json else _line)
    if not json and built.manifest:
        note(f"built {steps.engine} for {built.manifest.gpu} ({built.manifest.architecture})")
        if len(steps.steps) > 1:
            note(
                f"{steps.work} keeps the converted checkpoint for builds with other flags; remove it at will"
            )
    return built


def _line(line: str) -> None:
    note(Text(f"  {line}", "dim"))


def _openvino(
    checkpoint: Path, target: Path, weight_format: WeightFormat, python: str | None, force: bool, json: bool
) -> None:
    note(f"building {target} from {checkpoint} ({weight_format}); this takes a minute")
    manifest = quorum.build_openvino(
        checkpoint,
        target,
        weight_format=weight_format,
        python=Path(python) if python else BUILD_PYTHON,
        force=force,
        on_line=None if json else _line,
    )
    if json:
        print_json(manifest)
        return
    note(
        f"built {target}. To serve it, put this into deploy.yaml under `members:` and run `quorum render`:\n"
        f"\n  - name: {target.name.lower()}\n    runtime: openvino\n    options: {{model: {target}}}"
    )

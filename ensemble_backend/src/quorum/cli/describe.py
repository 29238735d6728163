# SPDX-License-Identifier: Apache-2.0
"""``quorum validate | render``: check a deployment and write its model repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

import quorum
from quorum.cli.console import DEPLOY, CommandError, DeployOption, JsonOption, adapters_text, note, print_json
from quorum.cli.rollout import describe_missing


def validate(
    deploy: DeployOption = DEPLOY,
    machine: Annotated[
        bool, typer.Option("--preflight", help="Also check that this machine can serve it.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Check deploy.yaml and the files it names; nothing is changed.

    What this machine lacks to serve it (a tritonserver, libraries, packages, API keys) is named by warnings,
    all at once, each with the command that installs it. So is a member that was tuned for no attribute.

    With --preflight these are errors, and also checked: do engines fit this GPU and this TensorRT-LLM, do all
    members fit in its memory, are LoRA adapters of their base. `quorum up` does the same before it starts.

    Example: `quorum validate --deploy deploy.yaml`

    Example: `quorum validate --deploy deploy.gpu.yaml --preflight`
    """
    spec = quorum.load_deployment(deploy)
    warnings = quorum.validate(spec)
    if machine:
        refuse_misfits(spec)
    adapters = spec.adapters()
    if json:
        report = {"valid": True, "members": spec.member_names, "attributes": list(spec.attributes)}
        more = {"adapters": adapters, "warnings": warnings}
        print_json(report | {name: value for name, value in more.items() if value})
    else:
        asked = [*spec.attributes, *["whatever `default` is asked about"] * bool(spec.default)]
        note(f"{deploy}: valid; members {', '.join(spec.member_names)}; asked for {', '.join(asked)}")
        for name, own in adapters.items():
            note(f"adapters of {name}: {adapters_text(own)}")
        for warning in warnings:
            note(Text(f"warning: {warning}", "bold red"))


def schema() -> None:
    """Print the JSON schema of deploy.yaml, by which editors complete and check it.

    What depends on several keys, and on files, `quorum validate` checks.

    Example: `quorum schema > deploy.schema.json`

    Then write `# yaml-language-server: $schema=deploy.schema.json` as the first line of deploy.yaml.
    """
    print_json(quorum.deployment_schema())


def refuse_misfits(spec: quorum.Deployment) -> None:
    """Check that the GPU members fit this machine; raises CommandError with a line per problem."""
    report = quorum.check_machine(spec)
    for line in report.notes:
        note(f"note: {line}")
    if report.problems:
        raise CommandError("\n".join(report.problems))
    if report.checked:
        note(f"preflight: {', '.join(report.checked)} fit this machine")


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

    Versions of the weights and the channels' pins are kept. When the members have changed and no version
    fits them any more, `--reset-weights` starts again from equal weights.

    Example: `quorum render && git diff model_repository`
    """
    spec = quorum.load_deployment(deploy)
    report = quorum.render(spec, check=check, reset_weights=reset)
    changes = report.difference
    if report.restarted_from is not None:
        note(f"both channels start from version {report.restarted_from}: equal weights")
    if json:
        print_json(report)
    else:
        _show(report, spec.repository_path, check)
        for version, members in report.unscored.items():
            note(describe_missing(version, members))
        for version, change in report.catalogue.items():
            note(f"version {version}: {change}")
        if report.written and not changes.is_clean and report.served:
            note("this deployment is being served: the change takes effect at the next `quorum up`")
    if changes.misfits or (check and not changes.is_clean):
        raise typer.Exit(1)


def _show(report: quorum.RenderReport, repository: Path, check: bool) -> None:
    changes = report.difference
    written, removed = ("wrote", "removed") if report.written else ("differs", "not in deploy.yaml")
    for name in sorted(changes.write):
        note(f"{written}: {repository / name}")
    for name in changes.remove:
        note(f"{removed}: {repository / name}")
    for version, reason in changes.misfits.items():
        note(f"version {version} cannot be served: {reason}")
    if report.remedy:
        note(report.remedy if check else f"nothing was written: {report.remedy}")
    if changes.is_clean:
        note(f"{repository} matches deploy.yaml")
    elif check and not report.remedy:
        note("run `quorum render`")

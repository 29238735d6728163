# SPDX-License-Identifier: Apache-2.0
"""Start a deployment in a folder: ``deploy.yaml``, the model repository, and on request the demo's LLMs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorum.deployment.load import DeploymentError, parse_deployment
from quorum.deployment.schema import Deployment
from quorum.deployment.starter import attribute_sections, deploy_text, member_names
from quorum.extras import how_to_install
from quorum.files import write_atomic
from quorum.operations.demo_files import MODELS, demo_folder
from quorum.records import Record
from quorum.repository.render import render
from quorum.runtimes.option_base import OptionError, find_missing
from quorum.runtimes.options import HfOptions, read_options
from quorum.server.parts import missing_parts
from quorum_contract.errors import QuorumError

DEPLOY_FILE = "deploy.yaml"
USUAL = ("brand", "color", "gender")
_DEMO_NOTE = "Toys of 1.3 to 2 million parameters, trained on made-up listings: to try quorum with, no more."
_REMOTE_NOTE = """\
A price makes answers state their cost, and a budget limits what a member spends:
price: {per_1k_prompt_tokens: 0.001, per_1k_answer_tokens: 0.002}
budget: {per_day: 5}"""


class InitError(QuorumError, ValueError):
    """A deployment cannot be started so; the message names the argument or file, and the fix."""

    code = "INIT_REFUSED"


@dataclass(frozen=True, slots=True)
class InitOptions:
    """What votes in a new deployment: any of these together.

    Attributes:
        demo: The three small LLMs of the demo, copied to ``models/``, and its listings.
        url: Address of an OpenAI-compatible API, up to what comes before ``/chat/completions``.
        models: Names by which that API serves models; each is a member.
        api_key_env: Environment variable with the key of that API; None: it takes none.
        checkpoints: Folders of Hugging Face checkpoints; each is a member.
        attributes: What can be asked; empty: the demo's catalogue, or :data:`USUAL`.
        force: Whether files that exist are replaced.
    """

    demo: bool = False
    url: str | None = None
    models: Sequence[str] = ()
    api_key_env: str | None = None
    checkpoints: Sequence[Path] = ()
    attributes: Sequence[str] = ()
    force: bool = False


@dataclass(frozen=True, slots=True)
class InitReport(Record):
    """A deployment that was started.

    Attributes:
        deploy: Its file.
        members: Who votes.
        attributes: What can be asked.
        missing: What this machine lacks to serve it, a line each, with the command that installs it.
    """

    deploy: Path
    members: list[str]
    attributes: list[str]
    missing: list[str]


def init(folder: Path, options: InitOptions) -> InitReport:
    """Write a small ``deploy.yaml`` with comments into a folder, and the model repository that it describes.

    Raises:
        InitError: Nothing is to vote, an argument is wrong, or a file exists and ``force`` is not set.
        RepositoryError: The folder has a model repository of other members.
    """
    path = folder / DEPLOY_FILE
    if path.exists() and not options.force:
        raise InitError(f"{path} exists; edit it, name another folder, or replace it by --force")
    members = _members(options, folder)
    attributes = _catalogue(options)
    note = _DEMO_NOTE if options.demo else _REMOTE_NOTE if options.url else ""
    text = deploy_text(members, attributes, note)
    try:
        deployment = parse_deployment(path, text)
    except DeploymentError as error:
        raise InitError(f"nothing was written, as this deploy.yaml would be refused: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    # The file last: while it is missing, the same command goes on after what failed.
    render(deployment)
    if options.demo:
        _copy_demo(folder, options.force)
    write_atomic(path, text)
    return _report(deployment)


def _report(deployment: Deployment) -> InitReport:
    keys = [
        problem
        for member in deployment.members
        for _, problem in member.options.missing_at_start(deployment.root)
    ]
    missing = [*dict.fromkeys(keys), *missing_parts(deployment)]
    return InitReport(deployment.path, deployment.member_names, list(deployment.attributes), missing)


def _members(options: InitOptions, folder: Path) -> list[dict[str, Any]]:
    """The ``members`` section; raises InitError for options that make none."""
    if options.models and not options.url:
        raise InitError("--model names a model of an API: name its address by --openai")
    if options.url and not options.models:
        raise InitError(f"--openai {options.url}: name each model that is to vote by --model")
    made: list[tuple[str, dict[str, Any]]] = []
    if options.demo:
        bare = {"runtime": "openvino", "prompt": "bare"}
        made += [(name, {**bare, "options": {"model": f"models/{name}"}}) for name in MODELS]
    key = {"api_key_env": options.api_key_env} if options.api_key_env else {}
    for model in options.models:
        asked = {"base_url": options.url, "model": model, **key}
        made.append((model, {"runtime": "openai", "options": asked}))
    for checkpoint in options.checkpoints:
        for _, problem in find_missing(HfOptions(model=str(checkpoint)), Path()):
            raise InitError(f"--hf: {problem}")
        place = checkpoint if checkpoint.is_absolute() else os.path.relpath(checkpoint, folder)
        made.append((checkpoint.resolve().name, {"runtime": "hf", "options": {"model": str(place)}}))
    if not made:
        raise InitError("nothing is to vote: give --demo, --openai URL --model NAME, or --hf FOLDER")
    for title, member in made[len(MODELS) * options.demo :]:
        _check(title, member)
    names = member_names(title for title, _ in made)
    return [{"name": name, **member} for name, (_, member) in zip(names, made, strict=True)]


def _check(title: str, member: Mapping[str, Any]) -> None:
    """Raise InitError where a member's options are wrong, before anything is written."""
    try:
        read_options(member["runtime"], member["options"])
    except OptionError as error:
        argument = {"base_url": "--openai", "api_key_env": "--api-key-env"}.get(error.key, title)
        raise InitError(f"{argument}: {error}") from error


def _catalogue(options: InitOptions) -> dict[str, Mapping[str, Any]]:
    usual: dict[str, Mapping[str, Any]] = {}
    if options.demo:
        content = json.loads((_demo() / "attributes.json").read_text("utf-8"))
        usual = {name: _without_defaults(section) for name, section in content.items()}
    names = options.attributes or list(usual) or USUAL
    return {name: usual.get(name, section) for name, section in attribute_sections(names).items()}


def _without_defaults(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if value and (key, value) != ("normaliser", "text")}


def _demo() -> Path:
    folder = demo_folder()
    if folder is None:
        raise InitError(f"--demo: the demo is not installed; run {how_to_install('demo')}")
    return folder


def _copy_demo(folder: Path, force: bool) -> None:
    source = _demo()
    for name in MODELS:
        place = folder / "models" / name
        if place.exists() and not force:
            raise InitError(f"{place} exists; name another folder, or replace it by --force")
        shutil.copytree(source / "models" / name, place, dirs_exist_ok=force)
    shutil.copyfile(source / "listings.jsonl", folder / "listings.jsonl")

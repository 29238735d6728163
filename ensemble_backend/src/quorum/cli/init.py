# SPDX-License-Identifier: Apache-2.0
"""``quorum init``: start a deployment in a folder."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer
from rich.text import Text

import quorum
from quorum.cli.console import CommandError, JsonOption, note, print_json
from quorum.cli.options import names_in

_CHOICES = """Which LLMs are to vote?
  1  the demo's three small ones: nothing to download, no GPU
  2  models behind an OpenAI-compatible API: hosted, vLLM, Ollama, llama.cpp
  3  Hugging Face checkpoints in folders of this machine, by PyTorch"""


def init(
    folder: Annotated[Path, typer.Argument(help="Where deploy.yaml goes; made if missing.")] = Path(),
    demo: Annotated[
        bool, typer.Option("--demo", help="Members: the demo's three small LLMs, copied to models/.")
    ] = False,
    openai: Annotated[
        str | None, typer.Option(metavar="URL", help="Address of an OpenAI-compatible API, ending in /v1.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A model of that API as a member; repeatable.")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="Environment variable with the key of that API.")
    ] = None,
    hf: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="A Hugging Face checkpoint as a member; repeatable."),
    ] = None,
    attributes: Annotated[
        str | None, typer.Option("--attributes", "-a", help="Comma-separated names of what can be asked.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a deploy.yaml that exists.")] = False,
    json: JsonOption = False,
) -> None:
    """Start a deployment: write a small deploy.yaml with comments, and the model repository.

    On a terminal it asks which LLMs are to vote; options answer that, and several kinds can vote together.
    What this machine lacks to serve them is named, with the command that installs it.

    Example: `quorum init --demo && quorum up`

    Example: `quorum init shoes --openai http://localhost:11434/v1 --model llama3.2 --model qwen2.5`
    """
    options = quorum.InitOptions(
        demo, openai, model or (), api_key_env, hf or (), names_in(attributes) or (), force
    )
    if not (demo or openai or model or hf):
        if not sys.stdin.isatty():
            raise CommandError("name who votes: --demo, --openai URL --model NAME, or --hf FOLDER")
        options = _ask(options)
    report = quorum.init(folder, options)
    if json:
        print_json(report)
        return
    note(Text(f"wrote {report.deploy} and its model repository; members {', '.join(report.members)}"))
    if len(report.members) == 1:
        note(
            "one member alone makes no vote: add others to `members`, then run `quorum render`, or, while "
            "a server runs, `quorum apply`"
        )
    for problem in report.missing:
        note(Text(f"missing here: {problem}", "bold red"))
    change_folder = "" if folder == Path() else f"cd {quote(str(folder))} && "
    # As text: a name may look like a style of rich.
    note(
        Text(
            f"next: `{change_folder}quorum up`, and in another terminal, once it serves, in the same folder:"
        )
    )
    asked = quote(",".join(report.attributes[:3]))
    note(Text(f'`quorum ask "Velmora men\'s leather sneakers black 42" --attributes {asked}`'))


def _ask(options: quorum.InitOptions) -> quorum.InitOptions:
    """Ask on the terminal for what the options leave open."""
    typer.echo(_CHOICES, err=True)
    match typer.prompt("Number", default="1", err=True).strip():
        case "1":
            return replace(options, demo=True)
        case "2":
            url = typer.prompt("Address of the API", default="http://localhost:11434/v1", err=True)
            models = typer.prompt("Models, comma-separated", err=True)
            key = typer.prompt("Environment variable with its key (empty: none)", default="", err=True)
            options = replace(options, url=url, models=names_in(models) or (), api_key_env=key or None)
        case "3":
            folders = typer.prompt("Folders, comma-separated", err=True)
            options = replace(options, checkpoints=[Path(name) for name in names_in(folders) or ()])
        case other:
            raise CommandError(f"{other!r} is none of 1, 2 and 3")
    if options.attributes:
        return options
    asked = typer.prompt("What can be asked, comma-separated", default="brand,color,gender", err=True)
    return replace(options, attributes=names_in(asked) or ())

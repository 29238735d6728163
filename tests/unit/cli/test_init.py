# SPDX-License-Identifier: Apache-2.0
"""``quorum init``: a deployment that validates, from flags or answers, and refusals that say why."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import quorum
from quorum.deployment.starter import USUAL_ATTRIBUTES, attribute_sections, deploy_text, member_names
from quorum.operations import demo_files, init

API = ("--openai", "http://localhost:11434/v1")


def test_the_demo_is_a_deployment_that_needs_nothing_else(folder: Path, run: Any) -> None:
    code, _, err = run("init", "new", "--demo")
    assert code == 0, err
    assert "cd new && quorum up" in err
    spec = quorum.load_deployment(folder / "new" / "deploy.yaml")
    assert spec.member_names == ["demo-llama", "demo-qwen2", "demo-qwen3"]
    assert quorum.validate(spec) == ()
    assert quorum.render(spec, check=True).difference.is_clean
    assert not quorum.check_machine(spec).problems
    # The LLMs know this catalogue alone.
    assert spec.catalogue() == quorum.load_deployment(Path(__file__).parents[3] / "deploy.yaml").catalogue()
    assert (folder / "new" / "listings.jsonl").is_file()


def test_models_of_an_api_and_checkpoints_vote_together(folder: Path, run: Any) -> None:
    (folder / "checkpoints" / "Own Model").mkdir(parents=True)
    (folder / "checkpoints" / "Own Model" / "config.json").write_text("{}")
    models = ("--model", "Qwen/Qwen3-0.6B", "--model", "qwen3-0.6b")
    code, out, err = run(
        "init", "new", *API, *models, "--hf", "checkpoints/Own Model", "-a", "color,heel height", "--json"
    )
    assert code == 0, err
    report = json.loads(out)
    assert report["members"] == ["qwen3-0.6b", "qwen3-0.6b-2", "own-model"]
    assert report["attributes"] == ["color", "heel height"]
    spec = quorum.load_deployment(folder / "new" / "deploy.yaml")
    assert [member.runtime for member in spec.members] == ["openai", "openai", "hf"]
    assert quorum.render(spec, check=True).difference.is_clean
    assert "What is the heel height of the item?" in (folder / "new" / "deploy.yaml").read_text("utf-8")


def test_a_key_that_is_not_set_is_named(folder: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEW_KEY", raising=False)
    code, _, err = run("init", "new", *API, "--model", "m", "--api-key-env", "NEW_KEY")
    assert code == 0
    assert "missing here: the environment variable NEW_KEY is not set" in err
    assert "one member alone makes no vote" in err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "name who votes: --demo, --openai URL --model NAME, or --hf FOLDER"),
        (API, "name each model that is to vote by --model"),
        (("--model", "m"), "name its address by --openai"),
        (("--openai", "localhost", "--model", "m"), "--openai: it is not the address of an API"),
        (
            (*API, "--model", "m", "--api-key-env", "sk-12"),
            "--api-key-env: it is not the name of an environment",
        ),
        ((*API, "--model", "quorum_gate"), "nothing was written, as this deploy.yaml would be"),
        (
            (*API, "--model", "m", "-a", "a" * 400),
            "nothing was written, as this deploy.yaml would be",
        ),
        (("--hf", "nowhere"), "nowhere does not exist; save a checkpoint there: `hf download"),
    ],
)
def test_refusals_say_what_to_give_and_write_nothing(
    folder: Path, run: Any, arguments: Any, why: str
) -> None:
    code, _, err = run("init", "new", *arguments)
    assert code == 1
    assert why in " ".join(err.split())
    assert not (folder / "new").exists()


def test_the_commands_that_it_names_run_in_a_shell(folder: Path, run: Any) -> None:
    code, _, err = run("init", "my [bold]shoes", *API, "--model", "m", "-a", "brand,heel height,it's")
    assert code == 0, err
    there, asked = (shlex.split(line.partition("`")[2].rpartition("`")[0]) for line in err.splitlines()[-2:])
    assert there == ["cd", "my [bold]shoes", "&&", "quorum", "up"]
    assert asked[-2:] == ["--attributes", "brand,heel height,it's"]


def test_nothing_is_replaced_unless_asked(folder: Path, run: Any) -> None:
    before = (folder / "deploy.yaml").read_text("utf-8")
    code, _, err = run("init", *API, "--model", "m")
    assert code == 1
    assert "deploy.yaml exists" in err
    assert (folder / "deploy.yaml").read_text("utf-8") == before
    assert run("init", *API, "--model", "m", "--force")[0] == 0
    assert quorum.load_deployment(folder / "deploy.yaml").member_names == ["m"]


def test_without_the_demo_the_package_is_named(
    folder: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_files, "CHECKOUT", folder)
    monkeypatch.setitem(sys.modules, "quorum_demo", None)
    monkeypatch.setattr(init, "how_to_install", lambda extra: f"`pip install 'quorum[{extra}]'`")
    code, _, err = run("init", "new", "--demo")
    assert code == 1
    assert "run `pip install 'quorum[demo]'`" in " ".join(err.split())


def test_on_a_terminal_it_asks(tmp_path: Path) -> None:
    typed = "2\n\nqwen3, llama3.2\n\ncolor\n"
    keyboard, terminal = pty.openpty()
    with os.fdopen(keyboard, "wb", buffering=0) as keys, os.fdopen(terminal, "rb") as stdin:
        keys.write(typed.encode())
        program = "import sys; sys.argv = ['quorum', 'init']; from quorum.__main__ import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            stdin=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "Which LLMs are to vote?" in done.stderr
    spec = quorum.load_deployment(tmp_path / "deploy.yaml")
    assert (spec.member_names, list(spec.attributes)) == (["qwen3", "llama3.2"], ["color"])


def test_names_of_members_fit_triton_and_differ() -> None:
    names = member_names(["meta-llama/Llama 3.2 (1B)", "llama-3.2-1b", "___", "日本", "x" * 99])
    assert names == ["llama-3.2-1b", "llama-3.2-1b-2", "llm", "llm-2", "x" * 40]


def test_the_text_says_what_it_was_given(tmp_path: Path) -> None:
    members = [{"name": "a", "runtime": "replay", "options": {"votes": 'v "1": #.jsonl'}}]
    attributes = attribute_sections([*USUAL_ATTRIBUTES, "no", "größe: №"])
    text = deploy_text(members, attributes)
    read = yaml.safe_load(text)
    assert read["members"] == members
    assert read["attributes"] == attributes
    (tmp_path / "deploy.yaml").write_text(text, encoding="utf-8")
    assert list(quorum.load_deployment(tmp_path / "deploy.yaml").attributes) == list(attributes)

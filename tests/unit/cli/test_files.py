# SPDX-License-Identifier: Apache-2.0
"""Files that cannot be read or written are ordinary mistakes: one line with file, reason and what next."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from quorum.cli.console import describe_os_error, friendly
from quorum.deployment import DeploymentError, load_deployment
from quorum.learning.newton import NoConvergenceError
from quorum.repository.history import Event, History
from quorum.server.endpoint import Endpoint
from quorum.server.runfile import Running, leave_note, start_of


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["learn", "votes.jsonl", "--out", "folder"], ["folder: Is a directory", "name a file"]),
        (["evaluate", "votes.jsonl", "--report", "no/dir/x.html"], ["no/dir/x.html: No such file", "folder"]),
        (["evaluate", "votes.jsonl", "--report", "folder"], ["folder: Is a directory", "name a file"]),
        (["render", "--deploy", "blocked.yaml"], ["votes.jsonl", "a file; name another"]),
        (
            ["learn", "votes.jsonl", "--out", "votes.jsonl/w.json"],
            ["votes.jsonl", "name another"],
        ),
        (["learn", "votes.jsonl", "--out", "/dev/full"], ["/dev/full: is no regular file; name a file"]),
        (["votes", "drop", "votes.jsonl", "beta", "--out", "."], [".: Is a directory", "name a file"]),
        (["votes", "drop", "votes.jsonl", "beta", "--out", "/dev/full"], ["/dev/full: is no regular file"]),
    ],
)
def test_places_that_cannot_be_written_are_named(
    folder: Path, run: Any, arguments: list[str], words: list[str]
) -> None:
    (folder / "folder").mkdir()
    text = (folder / "deploy.yaml").read_text("utf-8")
    (folder / "blocked.yaml").write_text(text + "repository: votes.jsonl/repository\n", encoding="utf-8")
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert all(word in err for word in words), err


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_file_that_may_not_be_made_names_its_folder(tmp_path: Path, code: int) -> None:
    """The file itself may be known to the system under a passing name only."""
    error = OSError(code, os.strerror(code), str(tmp_path / ".weights.json.x1y2"))
    assert describe_os_error(error).startswith(f"{tmp_path}: {os.strerror(code)}; ")
    (tmp_path / "there").touch()
    error = OSError(code, os.strerror(code), str(tmp_path / "there"))
    assert describe_os_error(error).startswith(f"{tmp_path / 'there'}: ")


def test_errors_of_sockets_are_no_mistakes_of_files() -> None:
    @friendly
    def fail(error: OSError) -> None:
        raise error

    with pytest.raises(ConnectionResetError):
        fail(ConnectionResetError(errno.ECONNRESET, "reset"))
    with pytest.raises(typer.Exit):
        fail(FileNotFoundError(errno.ENOENT, "No such file or directory", "x"))


def test_a_full_disk_is_a_message_when_a_write_does_not_name_the_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @friendly
    def fill() -> None:
        with Path("/dev/full").open("w", buffering=1) as file:
            file.write("a line\n")

    with pytest.raises(typer.Exit):
        fill()
    assert "error: No space left on device; free some space" in capsys.readouterr().err


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_an_error_of_writing_is_a_message(capsys: pytest.CaptureFixture[str], code: int) -> None:
    @friendly
    def write() -> None:
        raise OSError(code, os.strerror(code))

    with pytest.raises(typer.Exit):
        write()
    assert capsys.readouterr().err.startswith(f"error: {os.strerror(code)}; ")


def test_brackets_are_text_in_tables_and_messages(folder: Path, run: Any) -> None:
    history = History(folder / "model_repository")
    history.path.parent.mkdir()
    history.append(Event("2026-11-29T20:00", "publish", 2, None, "", reason="[/x] [red]", who="me"))
    code, out, err = run("history")
    assert code == 0, err
    assert "[/x]" in out
    assert "[red]" in out


def test_learning_and_evaluating_need_no_deployment(folder: Path, run: Any) -> None:
    (folder / "deploy.yaml").unlink()
    code, out, err = run("learn", "votes.jsonl", "--json")
    assert code == 0, err
    assert json.loads((folder / json.loads(out)["out"]).read_text("utf-8"))["members"] == [
        "alpha",
        "beta",
        "gamma",
    ]
    code, out, err = run("evaluate", "votes.jsonl", "--methods", "majority,em", "--folds", "2", "--json")
    assert code == 0, err
    assert set(json.loads(out)["methods"]) >= {"majority", "em"}
    code, _, err = run("learn", "votes.jsonl", "--deploy", "nowhere.yaml")
    assert (code, "nowhere.yaml" in err) == (1, True)


def test_a_render_under_a_running_server_says_when_it_counts(folder: Path, run: Any) -> None:
    assert "next `quorum up`" not in run("render")[2]
    spec = load_deployment(folder / "deploy.yaml")
    endpoint = Endpoint("127.0.0.1", 9, 9, 9, "key")
    leave_note(spec, Running(os.getpid(), start_of(os.getpid()), spec.repository_path, endpoint))
    assert "next `quorum up`" not in run("render")[2]
    text = (folder / "deploy.yaml").read_text("utf-8")
    (folder / "deploy.yaml").write_text(
        text.replace("gate: {}", "gate: {max_in_flight: 7}"), encoding="utf-8"
    )
    code, _, err = run("render")
    assert code == 0
    assert "takes effect at the next `quorum up`" in err


def test_validate_looks_into_the_folder_of_a_model(folder: Path, run: Any) -> None:
    (folder / "model").mkdir()
    (folder / "deploy.yaml").write_text(
        "attributes: {size: {}}\nmembers: [{name: a, runtime: openvino, options: {model: model}}]\n",
        encoding="utf-8",
    )
    code, _, err = run("validate")
    assert code == 1
    assert "members[0].options.model" in err
    assert "openvino_model.xml" in err
    assert "quorum build" in err


def test_an_error_of_ours_is_one_message_whatever_its_kind(capsys: pytest.CaptureFixture[str]) -> None:
    @friendly
    def command() -> None:
        raise NoConvergenceError("no minimum after 100 steps")

    with pytest.raises(typer.Exit) as ended:
        command()
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == "error: no minimum after 100 steps\n"


@pytest.mark.parametrize(
    "text", ["x: 2020-13-45\n", "x: !!int zz\n", "x: !!bool zz\n", "x: &a [*a]\n", "[" * 1000]
)
def test_yaml_that_its_parser_stumbles_over_is_an_error_message(tmp_path: Path, text: str) -> None:
    path = tmp_path / "deploy.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DeploymentError, match=r"deploy\.yaml(:1)?: "):
        load_deployment(path)


def test_messages_that_have_no_reader_do_not_end_a_command() -> None:
    """As of `quorum up` whose log collector has gone; results without a reader do."""
    program = "from quorum.cli.console import note, out; note('one'); note('two'); out.print('done')"
    read, write = os.pipe()
    os.close(read)
    shown = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=write, text=True, check=False
    )
    os.close(write)
    assert (shown.returncode, shown.stdout) == (0, "done\n")

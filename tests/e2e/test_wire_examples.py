# SPDX-License-Identifier: Apache-2.0
"""The commands and programs of the page of the wire contract, run as they stand against a real server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.deployment import ATTRIBUTES, Live, title
from support.docs import ROOT, Block, blocks

from quorum_client import Client

CLIENTS = ROOT / "examples" / "clients"
LONG = pytest.mark.skipif(not os.environ.get("QUORUM_LONG"), reason="long form: QUORUM_LONG=1 scripts/test")
JARS = Path("/usr/share/java")
TEXT = title(2)
"""Of a product of which one member says something else."""
NEEDED_JARS = ("grpc-netty", "grpc-protobuf", "grpc-stub", "protobuf", "guava", "netty-all", "perfmark-api")
Program = Callable[[Path], list[str]]


def needed(*programs: str) -> None:
    """Skip where a program is not installed."""
    if missing := [name for name in programs if not shutil.which(name)]:
        pytest.skip(f"no {missing[0]}; examples/clients/README.md names the packages")


def make(*command: str | Path, **environment: str) -> None:
    done = subprocess.run(
        [*map(str, command)], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def by_tritonclient(folder: Path) -> list[str]:
    return [sys.executable, str(CLIENTS / "python" / "with_tritonclient.py")]


def by_grpcio(folder: Path) -> list[str]:
    needed("protoc")
    make("protoc", "-I", CLIENTS, f"--python_out={folder}", "inference.proto")
    shutil.copy(CLIENTS / "python" / "with_grpcio.py", folder)
    return [sys.executable, str(folder / "with_grpcio.py")]


def by_go(folder: Path) -> list[str]:
    needed("protoc", "go", "protoc-gen-go")
    sources = Path("/usr/share/gocode")
    if not (sources / "src" / "google.golang.org" / "grpc").is_dir():
        pytest.skip("no golang-google-grpc-dev; examples/clients/README.md names the packages")
    package = folder / "src" / "quorum.example" / "ask"
    package.mkdir(parents=True)
    make("protoc", "-I", CLIENTS, f"--go_out=plugins=grpc:{folder / 'src'}", "inference.proto")
    shutil.copy(CLIENTS / "go" / "main.go", package)
    own = {
        "GO111MODULE": "off",
        "GOPATH": f"{folder}:{sources}",
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "",
    }
    make("go", "build", "-o", folder / "ask", "quorum.example/ask", **own)
    return [str(folder / "ask")]


def by_java(folder: Path) -> list[str]:
    needed("protoc", "javac", "grpc_java_plugin")
    if missing := [jar for jar in NEEDED_JARS if not (JARS / f"{jar}.jar").exists()]:
        pytest.skip(f"no {missing[0]}.jar; examples/clients/README.md names the packages")
    plugin = f"--plugin=protoc-gen-grpc-java={shutil.which('grpc_java_plugin')}"
    make(
        "protoc",
        "-I",
        CLIENTS,
        plugin,
        f"--java_out={folder}",
        f"--grpc-java_out={folder}",
        "inference.proto",
    )
    stubs = sorted((folder / "inference").glob("*.java"))
    make("javac", "-nowarn", "-cp", f"{JARS}/*", "-d", folder, CLIENTS / "java" / "Ask.java", *stubs)
    return ["java", "-cp", f"{folder}:{JARS}/*", "Ask"]


@pytest.mark.parametrize(
    "program",
    [by_tritonclient, by_grpcio, pytest.param(by_go, marks=LONG), pytest.param(by_java, marks=LONG)],
)
def test_a_program_gets_what_the_client_gets(program: Program, steady: Live, tmp_path: Path) -> None:
    with Client(steady.url) as client:
        expected = client.extract(TEXT, ATTRIBUTES)
    lines = []
    for answer in expected.answers:
        lines.append(f"{answer.attribute} = {answer.value} ({answer.confidence:.2f})")
        lines += [f"  {vote.member} {int(vote.status)} {vote.value or ''}" for vote in answer.votes]
    command = [*program(tmp_path), steady.url]
    done = subprocess.run([*command, TEXT, ",".join(ATTRIBUTES)], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [*lines, f"version {expected.weights_version}"], done.stderr
    done = subprocess.run([*command, " ", "color"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "[quorum:INVALID_REQUEST]" in done.stderr


def shell_block(word: str) -> Block:
    (block,) = [block for block in blocks("docs/wire.md", "sh") if block.text.startswith(word)]
    return block


def run_block(block: Block, live: Live) -> str:
    http = f"{live.endpoint.host}:{live.endpoint.http_port}"
    text = block.text.replace("localhost:8000", http).replace("localhost:8001", live.url)
    done = subprocess.run(["sh", "-ec", text], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl_gets_an_answer(steady: Live) -> None:
    needed("curl")
    outputs = {one["name"]: one for one in json.loads(run_block(shell_block("curl"), steady))["outputs"]}
    assert outputs.keys() == {"VALUES", "CONFIDENCE", "DECISION_STATUS", "WEIGHTS_VERSION"}
    assert outputs["VALUES"]["shape"] == [2]


def test_grpcurl_gets_an_answer(steady: Live) -> None:
    needed("grpcurl")
    ready, _, answer = run_block(shell_block("grpcurl"), steady).partition("\n}\n")
    assert json.loads(ready + "}") == {"ready": True}
    found = json.loads(answer)
    assert {one["name"] for one in found["outputs"]} == {"VALUES", "CONFIDENCE"}
    assert len(found["rawOutputContents"]) == 2

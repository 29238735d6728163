# SPDX-License-Identifier: Apache-2.0
"""What a machine lacks to serve is named at once, part by part, with the command that installs it."""

from __future__ import annotations

import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from support.deployment import FREE_PORTS, write_deployment

import quorum
from quorum import extras
from quorum.runtimes import options
from quorum.server import gateway_settings, install, parts, traces
from quorum.server.parts import libraries_missing, missing_parts

Version = namedtuple("Version", "major minor")
HF = {"runtime": "hf", "options": {"model": "checkpoint"}}
REMOTE = {"runtime": "openai", "options": {"base_url": "http://localhost:1/v1", "model": "m"}}


@pytest.fixture
def spec(tmp_path: Path) -> quorum.Deployment:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "config.json").write_text("{}")
    members = {"alpha": {}, "own": HF, "other": HF | {"prompt": "bare"}, "far": REMOTE}
    return quorum.load_deployment(write_deployment(tmp_path, members))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As from wheels, outside of a checkout."""
    monkeypatch.setattr(extras, "CHECKOUT", tmp_path)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without the packages of these members, and without a server."""
    for name in ("torch", "transformers", "llguidance", "httpx2", "pytriton"):
        monkeypatch.setitem(sys.modules, name, None)


def test_nothing_is_missing_where_a_server_runs(tmp_path: Path) -> None:
    spec = quorum.load_deployment(write_deployment(tmp_path, {"alpha": {}, "far": REMOTE}))
    assert missing_parts(spec) == []


@pytest.mark.usefixtures("installed", "without")
def test_all_that_is_missing_is_named_at_once(spec: quorum.Deployment) -> None:
    server, own, far = missing_parts(spec)
    assert "no tritonserver" in server
    assert "run `pip install 'quorum[triton]'`" in server
    assert own.startswith("own, other: runtime 'hf' needs torch, transformers, llguidance, which ")
    assert own.endswith("run `pip install 'quorum[hf]'`")
    assert far.endswith("run `pip install 'quorum[openai]'`")


@pytest.mark.usefixtures("without")
def test_a_checkout_names_its_own_commands(spec: quorum.Deployment) -> None:
    server, own, _ = missing_parts(spec)
    assert "run `make setup`" in server
    assert own.endswith("run `make setup-hf`")


@pytest.mark.usefixtures("installed", "without")
def test_validate_warns_of_it_and_the_preflight_refuses_it(spec: quorum.Deployment) -> None:
    lacking = missing_parts(spec)
    assert [warning for warning in quorum.validate(spec) if warning in lacking] == lacking
    problems = quorum.check_machine(spec).problems
    assert [problem for problem in problems if problem in lacking] == lacking
    assert any("model_repository does not exist; write it with `quorum render`" in p for p in problems)


@pytest.mark.parametrize(
    ("platform", "machine", "version", "fix"),
    [
        ("darwin", "arm64", (3, 12), "this is darwin on arm64: serve on such a machine or in a container"),
        ("linux", "aarch64", (3, 12), "this is linux on aarch64"),
        ("linux", "x86_64", (3, 13), "make an environment of Python 3.11 or 3.12"),
        ("linux", "x86_64", (3, 12), "pip install 'quorum[triton]'"),
    ],
)
@pytest.mark.usefixtures("installed", "without")
def test_a_server_that_cannot_be_installed_here_is_not_advised(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    platform: str,
    machine: str,
    version: tuple[int, int],
    fix: str,
) -> None:
    spec = quorum.load_deployment(write_deployment(tmp_path, {"alpha": {}}))
    monkeypatch.setattr(install.sys, "platform", platform)
    monkeypatch.setattr(install.platform, "machine", lambda: machine)
    monkeypatch.setattr(install.sys, "version_info", Version(*version))
    (problem,) = missing_parts(spec)
    assert fix in problem


def test_a_library_that_the_loader_does_not_find_is_named_with_its_package(
    spec: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = install.find_install()
    assert found.stub is not None
    assert libraries_missing(found.stub, found) == set()
    # The stub for a Python that this machine does not have.
    other = next(
        stub
        for stub in sorted(found.stub.parents[1].glob("*/triton_python_backend_stub"))
        if libraries_missing(stub, found)
    )
    version = other.parent.name
    monkeypatch.setattr(parts, "find_install", lambda: replace(found, stub=other))
    (problem,) = parts._of_server()
    assert f"needs the library libpython{version}.so.1.0, which is not here" in problem
    assert f"run `apt-get install libpython{version}`" in problem


def test_a_numpy_that_the_stub_cannot_load_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = quorum.load_deployment(write_deployment(tmp_path, {"alpha": {}}))
    real = metadata.version
    monkeypatch.setattr(parts.metadata, "version", lambda name: "2.3.1" if name == "numpy" else real(name))
    (problem,) = missing_parts(spec)
    assert problem.endswith("run `pip install 'numpy<2'`")


@pytest.mark.usefixtures("installed")
def test_what_a_gateway_and_traces_lack_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = {"http_port": 0, "tls": {"certificate": "tls.pem", "key": "tls.key"}}
    server = {**FREE_PORTS, "traces": {"url": "http://localhost:4318/v1/traces"}}
    path = write_deployment(tmp_path, {"alpha": {}}, gateway=gateway, server=server)
    monkeypatch.setattr(gateway_settings, "find_spec", lambda _: None)
    monkeypatch.setattr(traces, "find_spec", lambda _: None)
    monkeypatch.delenv("QUORUM_INFERENCE_KEY", raising=False)
    traced, packages, keys, certificate = missing_parts(quorum.load_deployment(path))
    assert traced.startswith("server.traces: ")
    assert "`pip install 'quorum[gateway]'`" in packages
    assert "keys.json does not exist; make it with `quorum gateway keys add NAME`" in keys
    assert "tls.pem" in certificate
    monkeypatch.setenv("QUORUM_INFERENCE_KEY", "k" * 40)
    assert keys not in missing_parts(quorum.load_deployment(path)), "the key of the environment is enough"


@pytest.mark.parametrize("runtime", sorted(options.RUNTIMES))
def test_packages_of_runtimes_are_those_that_are_imported(runtime: str) -> None:
    """Every package that is named is imported by the modules of its runtime."""
    given = {
        "openvino": {"model": "m"},
        "hf": {"model": "m", "lora": "a"},
        "tensorrt_llm": {"model": "m"},
        "engine": {"engine": "e"},
        "replay": {"votes": "v"},
        "catalogue": {"products": "p"},
        "encoder": {"model": "m"},
        "openai": {"base_url": "http://h/v1", "model": "m"},
    }[runtime]
    named = options.read_options(runtime, given).packages
    sources = Path(quorum.__file__).parent / "runtimes"
    imported = "\n".join(path.read_text("utf-8") for path in sources.rglob("*.py"))
    # OpenVINO GenAI loads this by its name.
    by_name = {"openvino_tokenizers"}
    for package in {*named} - by_name:
        assert f"import {package}" in imported or f"from {package}" in imported, package


def test_without_the_packages_of_the_command_line_one_line_says_what_to_install(tmp_path: Path) -> None:
    program = "import sys; sys.modules['typer'] = None\nfrom quorum.__main__ import main\nmain()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the command line needs the package 'typer'")

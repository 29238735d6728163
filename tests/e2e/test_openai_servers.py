# SPDX-License-Identifier: Apache-2.0
"""Members of runtime ``openai`` ask servers of others: schemas ignored, schemas kept, a proxy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.checkpoints import write_checkpoint
from support.fault_server import free_port
from support.hf_members import CATALOGUE, ask
from support.openai_members import member, question, votes

from quorum.runtimes.base import Generated
from quorum.tasks.prompt import build_prompt

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "llm_servers.py"
CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
START_S = 600
pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("QUORUM_LONG"), reason="QUORUM_LONG=1 runs servers of others"),
]


def needs(name: str) -> None:
    if not (ROOT / ".cache" / "servers" / name / f".quorum-{name}").is_file():
        pytest.skip(f"{name} is not installed: run `python3 scripts/llm_servers.py install {name}`")


@contextmanager
def serving(name: str, what: str, folder: Path, *model: str) -> Iterator[str]:
    """A server's base URL; ``model`` is that behind a proxy."""
    needs(name)
    port = free_port()
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), "run", name, what, str(port), *model],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}/v1"
        end = time.monotonic() + START_S
        while not _answers(f"{url}/models"):
            assert process.poll() is None, log.read_text("utf-8", "replace")[-3000:]
            assert time.monotonic() < end, log.read_text("utf-8", "replace")[-3000:]
            time.sleep(0.5)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def ask_some(url: str, model: str, count: int = 6, **options: Any) -> tuple[list[Any], dict[str, Any]]:
    """Replies to real prompts, one at a time, and what the member notes of its endpoint."""
    names = list(CATALOGUE.attributes)
    prompts = [build_prompt(CATALOGUE, "instruct", f"red shoe {n}", "shoes", names) for n in range(count)]
    with member(url, model=model, max_tokens=48, **options) as runtime:
        replies = [ask(runtime, [question(prompt, 120.0)])[0] for prompt in prompts]
        return replies, runtime._caller.state().endpoints[0].to_json()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "llama"
    write_checkpoint(folder, "llama", chat=CHAT)
    return folder


def test_a_server_that_ignores_schemas(checkpoint: Path, tmp_path: Path) -> None:
    with serving("transformers", str(checkpoint), tmp_path) as url:
        replies, state = ask_some(url, str(checkpoint))
    assert all(isinstance(reply, Generated) for reply in replies), state
    assert all(reply.usage and reply.usage.prompt_tokens for reply in replies)
    assert not any(reply.log_probs for reply in replies)
    assert (state["answered"], state["scores"]) == (len(replies), False)
    assert state["form"] == "prompt alone (schemas are ignored)"


def test_a_server_that_keeps_schemas(tmp_path: Path) -> None:
    needs("vllm")
    folder = tmp_path / "llama"
    write_checkpoint(folder, "llama", chat=CHAT, head_size=64)
    with serving("vllm", str(folder), tmp_path) as url:
        replies, state = ask_some(url, "served")
    assert all(isinstance(reply, Generated) for reply in replies), state
    assert state["form"] == "JSON schema"
    assert state["scores"] is True
    values = CATALOGUE.get("color").values
    assert all(votes(reply)[0].value in (*values, "n/a", "") for reply in replies)


def test_a_proxy_in_front(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("litellm")
    monkeypatch.setenv("LITELLM_MASTER_KEY", "sk-of-a-test")
    key = {"api_key_env": "LITELLM_MASTER_KEY"}
    with (
        serving("transformers", str(checkpoint), tmp_path) as behind,
        serving("litellm", behind, tmp_path, str(checkpoint)) as url,
    ):
        replies, state = ask_some(url, "served", **key)
        unknown, refused = ask_some(url, "no-such-model", 2, **key)
    assert all(isinstance(reply, Generated) for reply in replies), state
    assert all(reply.usage and reply.usage.prompt_tokens for reply in replies)
    assert (state["answered"], state["failed"]) == (len(replies), 0)
    assert state["form"] == "prompt alone (schemas are ignored)"
    assert not any(isinstance(reply, Generated) for reply in unknown)
    assert refused["problem"], "an error of the proxy is named"

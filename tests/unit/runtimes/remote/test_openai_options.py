# SPDX-License-Identifier: Apache-2.0
"""Options of the runtime ``openai``: addresses that are refused, and keys that stand in the wrong place."""

from __future__ import annotations

import datetime as dt
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.deployment import write_deployment

import quorum
from quorum.runtimes.option_base import OptionError
from quorum.runtimes.options import read_options
from quorum.runtimes.remote.address import address_problem, is_plain, shown
from quorum.runtimes.remote.key import Key, KeyProblem, read_key

SECRET = "sk-1234567890abcdefghijklmnop"
CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
GOOD = {"base_url": "https://api.example.com/v1", "model": "m"}


@pytest.mark.parametrize(
    ("given", "key", "words"),
    [
        ({"base_url": "api.example.com"}, "base_url", "not the address"),
        ({"base_url": "ftp://example.com/v1"}, "base_url", "not the address"),
        ({"base_url": "https://"}, "base_url", "not the address"),
        ({"base_url": "https://a b/v1"}, "base_url", "not the address"),
        ({"base_url": "https://a:99999/v1"}, "base_url", "not the address"),
        ({"base_url": f"https://user:{SECRET}@example.com/v1"}, "base_url", "password"),
        ({"base_url": f"https://example.com/v1?key={SECRET}"}, "base_url", "query"),
        ({"base_url": "https://example.com/v1/chat/completions"}, "base_url", "leave that out"),
        ({"replicas": [f"https://{SECRET}@b.example.com/v1"]}, "replicas", "password"),
        ({"api_key": SECRET}, "api_key", "api_key_env"),
        ({"headers": {"Authorization": SECRET}}, "headers", "api_key_env"),
        ({"api_key_env": SECRET}, "api_key_env", "not the name"),
        ({"api_key_env": "KEY", "api_key_file": "key"}, "api_key_file", "two places"),
        ({"base_url": "http://llm.example.com/v1", "api_key_env": "KEY"}, "base_url", "https://"),
        ({"proxy": "proxy:3128"}, "proxy", "not the address"),
        ({"base_url": "http://127.0.0.1/v1", "proxy": "http://proxy:3128"}, "proxy", "https://"),
        ({"hedge": True}, "hedge", "replicas"),
        ({"extra_body": {"model": "x"}}, "extra_body", "leave it out"),
        ({"extra_body": {"api_key": SECRET}}, "extra_body", "leave it out"),
        ({"extra_body": {"a": [{"b": {"api_key": SECRET}}]}}, "extra_body", "leave it out"),
        ({"extra_body": {"a": {"extra_headers": {"x": SECRET}}}}, "extra_body", "leave it out"),
        ({"extra_body": {"a": {"Authorization": SECRET}}}, "extra_body", "leave it out"),
        ({"extra_body": {"headers": {"x": SECRET}}}, "extra_body", "leave it out"),
        ({"extra_body": {"token": SECRET}}, "extra_body", "api_key_env"),
        ({"extra_body": {"a": [{"accessToken": SECRET}]}}, "extra_body", "api_key_env"),
        ({"extra_body": {"tokens": [{"a": SECRET}]}}, "extra_body", "api_key_env"),
        ({"extra_body": {"a": {"client_secret": SECRET}}}, "extra_body", "api_key_env"),
        ({"extra_body": {"a": {"subscription-key": SECRET}}}, "extra_body", "api_key_env"),
        ({"extra_body": {"PASSWORD": 12345678}}, "extra_body", "api_key_env"),
        ({"extra_body": {"a": [math.nan]}}, "extra_body", "JSON"),
        ({"extra_body": {"a": {"b": math.inf}}}, "extra_body", "JSON"),
        ({"extra_body": {"a": dt.date(2026, 1, 2)}}, "extra_body", "JSON"),
        ({"extra_body": {"a": CIRCLE}}, "extra_body", "JSON"),
        ({"max_concurrency": 0}, "max_concurrency", "1 to 1024"),
        ({"temperature": 1}, "temperature", "no option"),
    ],
)
def test_options_that_are_refused(given: dict[str, Any], key: str, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        read_options("openai", {**GOOD, **given})
    assert caught.value.key == key
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"base_url": "http://127.0.0.1:8000/v1", "api_key_env": "KEY"},
        {"base_url": "http://[::1]:8000/v1", "api_key_env": "KEY"},
        {"base_url": "http://vllm:8000/v1"},
        {"base_url": "http://vllm:8000/v1", "api_key_env": "KEY", "insecure_http": True},
        {"api_key_file": "/run/secrets/key", "proxy": "http://proxy:3128"},
        {"replicas": ["https://b.example.com/v1"], "hedge": True},
        {"extra_body": {"reasoning_effort": "minimal"}},
        {"extra_body": {"min_tokens": 1, "stop_token_ids": [2], "a": {"skip_special_tokens": True}}},
        {"extra_body": {"a": [1, None, {"b": "x"}]}},
    ],
)
def test_options_that_are_taken(given: dict[str, Any]) -> None:
    assert read_options("openai", {**GOOD, **given}).isolated


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_has_a_problem(text: str) -> None:
    if not address_problem(text):
        assert shown(text).startswith(("http://", "https://"))
        is_plain(text)


def test_options_and_the_command_line_load_no_http_library() -> None:
    code = "import sys, quorum.runtimes.options, quorum.cli; print('httpx2' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_keys_from_the_environment_and_from_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{SECRET}\n")
    for key in (read_key("KEY", None, {"KEY": f" {SECRET} "}), read_key(None, tmp_path / "key")):
        assert key is not None
        assert key.header() == f"Bearer {SECRET}"
        assert SECRET not in f"{key!r} {key} {key!s:>50} {[key]}"
    assert read_key(None, None) is None


@pytest.mark.parametrize("content", [b"", b"  \n", b"two words", b"a\nb", "schlüssel".encode(), b"\xff\0"])
def test_a_file_without_a_key(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(KeyProblem) as caught:
        read_key(None, tmp_path / "key")
    assert caught.value.option == "api_key_file"
    assert str(tmp_path / "key") in str(caught.value)


def test_a_variable_or_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyProblem, match="KEY is not set"):
        read_key("KEY", None, {})
    with pytest.raises(KeyProblem, match="cannot be read"):
        read_key(None, tmp_path / "key")


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_text_shows_a_key(before: str, after: str) -> None:
    key = Key(SECRET)
    for shown_part in (SECRET, SECRET[:8] + "***", "***" + SECRET[-8:]):
        redacted = key.redact(before + shown_part + after)
        assert SECRET[:8] not in redacted.replace(before, "").replace(after, "")
        assert SECRET not in redacted


SLASHED = "sk/12345/67890/abcd+efgh"


@pytest.mark.parametrize(
    "shown_part",
    [
        SLASHED[4:15],
        SLASHED[-14:-3],
        SLASHED.replace("/", "\\/"),
        SLASHED.replace("/", "\\\\/"),
        "".join(f"\\u{ord(c):04x}" for c in SLASHED),
        SLASHED.replace("+", "\\u002B"),
    ],
)
def test_no_part_of_a_key_is_shown_however_it_is_cut_or_escaped(shown_part: str) -> None:
    assert Key(SLASHED).redact(f"you sent '{shown_part}' here") == "you sent '[key]' here"


def test_a_short_key_is_hidden_and_other_text_stays() -> None:
    assert Key("abc").redact("key abc, größe ab\n") == "key [key], größe ab\n"


def test_a_deployment_is_valid_without_the_key_and_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = {"runtime": "openai", "options": {**GOOD, "api_key_env": "QUORUM_TEST_KEY"}}
    spec = quorum.load_deployment(write_deployment(tmp_path, {"remote": member, "local": {}}))
    monkeypatch.delenv("QUORUM_TEST_KEY", raising=False)
    quorum.render(spec)
    (warning,) = quorum.validate(spec)
    assert "members[0].options.api_key_env: the environment variable QUORUM_TEST_KEY is not set" in warning
    assert quorum.check_machine(spec).problems == [warning]
    monkeypatch.setenv("QUORUM_TEST_KEY", SECRET)
    assert quorum.validate(spec) == ()
    assert quorum.check_machine(spec).problems == []
    quorum.render(spec)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]

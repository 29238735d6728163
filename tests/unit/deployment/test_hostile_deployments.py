# SPDX-License-Identifier: Apache-2.0
"""Damaged and hostile ``deploy.yaml``: each is a deployment, or an error with file and line, soon."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from support.mutate import LONG, LONG_FORM, as_json, damaged, mutated, patience

from quorum.deployment import DeploymentError, load_deployment
from quorum.deployment.load import MAX_DEPTH, MAX_PROBLEMS

pytestmark = LONG_FORM
ROOT = Path(__file__).parents[3]
FILES = [
    (ROOT / name).read_text("utf-8")
    for name in ("deploy.yaml", "deploy.gpu.yaml", "deploy.gpu-fp8.yaml", "deploy.engine.yaml")
]
FUZZED = 60_000 if LONG else 240
LONGEST_MESSAGE = 40_000
SYNTAX = (
    "&a ", "*a", "*b ", "<<: *a\n", "<<: [*a, *a]", "{", "}", "[" * 5_000, "{a: " * 5_000, "- " * 2_000,
    "!!binary ", "!!int x", "!!python/object:os.system ", "!!timestamp 9999-99-99", "2024-13-45", "!!set ",
    "!!omap [a]", "!!null ", "!t ", "? ", "? [a, {b: c}]\n", ": ", "|\n", ">+9\n", "'", '"', '"\\ud800"',
    '"\\x00"', "#", "---\n", "...\n", "%YAML 9.9\n", "\t", "\n", "\r", "\u2028", "\ufeff", "@", "`", "1_000",
    "0b1", "190:20:30", ".nan", ".inf", "9" * 5_000, "=", "~", "on",
)  # fmt: skip
"""Stretches of YAML that mean something, or look like it."""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "deploy.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return path


def read(path: Path) -> str:
    """Load it; the error, "" for a deployment, all of whose parts can be used."""
    try:
        with patience():
            spec = load_deployment(path)
            spec.catalogue().hash.encode()
            spec.models()
    except DeploymentError as error:
        message = str(error)
    else:
        return ""
    assert re.match(rf"{re.escape(str(path))}:[1-9]\d*: .", message), message
    message.encode()
    assert len(message) < LONGEST_MESSAGE, message[:2_000]
    return message


def test_damaged_deployments_are_refused_with_a_line_or_read(tmp_path: Path) -> None:
    draw, found = random.Random(4), Counter[bool]()
    trees = [yaml.safe_load(text) for text in FILES]
    for number in range(FUZZED):
        text = draw.choice(FILES)
        times = draw.choice([1, 1, 2, 3])
        if number % 3 == 0:
            content: str | bytes = as_json(mutated(draw, draw.choice(trees), times))
        elif number % 3 == 1:
            content = damaged(draw, text.encode(), times)
        else:
            for _ in range(times):
                at = draw.randrange(len(text) + 1)
                text = text[:at] + draw.choice(SYNTAX) + text[at:]
            content = text
        found[not read(write(tmp_path, content))] += 1
    assert min(found[False], found[True]) > FUZZED // 20


@pytest.mark.parametrize("opened", ["[", "{a: ", "- ", "? ", "- - ", "[{b: "])
def test_what_is_nested_too_deeply_is_refused_where_it_is_too_deep(tmp_path: Path, opened: str) -> None:
    text = "a: 1\nmembers:\n  " + opened * 5_000
    assert read(write(tmp_path, text)).endswith(
        "deploy.yaml:3: not YAML: nested too deeply; a deployment has few levels"
    )


def test_what_is_too_deep_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = []
    compose = yaml.SafeLoader.compose_node
    monkeypatch.setattr(
        yaml.SafeLoader,
        "compose_node",
        lambda *how: nodes.append(None) or compose(*how),  # type: ignore[func-returns-value]
    )
    read(write(tmp_path, "members: " + "[" * 5_000))
    assert 0 < len(nodes) <= 2 * MAX_DEPTH


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (b"a: 1\nb: \xff", 2, "not UTF-8 at byte 8"),
        (b"a: 1\n\nb: \x07\n", 3, "control character U\\+0007; remove it"),
        (b"a: 1\nb: 2\nb: 3\n", 3, "key 'b' appears twice; keep one"),
        (b"a: 1\nb:\n  - {c: 1, d: 2, c: 3}\n", 3, "key 'c' appears twice; keep one"),
        (b"a: 1\nb: " + b"9" * 5_000, 2, "a value cannot be read .*; write it in quotes"),
        (b"a: 1\nb: 2024-13-45", 2, "a value cannot be read .*; write it in quotes"),
        (b"a: 1\nb: !!timestamp x", 2, "a value cannot be read .*; write it in quotes"),
        (b"a: 1\nb: !!python/name:os.system", 2, "could not determine a constructor"),
        (b'a: 1\nb: ["x\\ud83d"]', 2, r"'x\\ud83d' holds half a character.*; write the character itself"),
        (b'a: 1\n"\\ud83d\\udc5f": 2', 2, "holds half a character"),
        (b"a: 1\n2: 3\n", 2, "key 2: keys must be text: quote it"),
        (b"members: [{!!binary aGk=: 1}]", 1, r"members\[0\]\.b'hi'.*: Keys should be strings"),
        (b"- a\n- b\n", 1, "expected a mapping"),
    ],
)  # fmt: skip
def test_the_line_of_what_cannot_be_read_is_named(tmp_path: Path, text: bytes, line: int, words: str) -> None:
    with pytest.raises(DeploymentError, match=rf"deploy\.yaml:{line}: (not YAML: )?.*{words}"):
        load_deployment(write(tmp_path, text))


def test_a_message_is_short_whatever_the_file_holds(tmp_path: Path) -> None:
    problems = read(
        write(tmp_path, f"members: {[None] * 500}\nattributes: {{}}\n? {'k' * 30_000}\n: 1\n")
    ).splitlines()
    assert len(problems) == MAX_PROBLEMS + 1
    assert re.search(r"deploy\.yaml:1: \d+ more problems; fix these first$", problems[-1])
    assert max(map(len, problems)) < 2_000
    assert len(read(write(tmp_path, f"members: []\nattributes: {{}}\n? {'k' * 30_000}\n: 1\n"))) < 4_000

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from quorum.deployment import load_deployment
from quorum.deployment.load import DeploymentError
from quorum_contract import CHANNELS, LAZY_CHANNELS

LORA = "runtime: hf, options: {model: base, lora: "
MEMBERS = f"""\
members:
  - {{name: a, {LORA}one}}}}
  - {{name: b, {LORA}two}}}}
  - {{name: c, runtime: replay, options: {{votes: v.jsonl}}}}
attributes: {{color: {{}}}}
"""


def write(path: Path, section: str) -> Path:
    file = path / "deploy.yaml"
    file.write_text(MEMBERS + section, encoding="utf-8")
    return file


def test_the_channels_are_there_for_who_asks_for_them(tmp_path: Path) -> None:
    assert load_deployment(write(tmp_path, "")).channels == CHANNELS
    spec = load_deployment(write(tmp_path, "lazy: {}\n"))
    assert spec.channels == (*CHANNELS, *LAZY_CHANNELS)
    assert spec.lazy is not None
    assert (spec.lazy.rows, spec.lazy.whole_questions, spec.lazy.flip_risk) == (None, True, 0.0)
    assert list(spec.models()) == ["quorum_shared_a", "c"]


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("lazy:\n  rows:\n  - [a, b]\n", "7: lazy.rows: c must stand in a row too; a row may hold several"),
        (
            "lazy:\n  rows:\n  - [a, b]\n  - [c, d]\n",
            r"9: lazy.rows\[1\]\[1\]: there is no member 'd'; they are a",
        ),
        ("lazy:\n  rows:\n  - [a, b]\n  - [c, a]\n", r"9: lazy.rows\[1\]\[1\]: 'a' stands in the rows twice"),
        (
            "lazy:\n  rows:\n  - [a, c]\n  - [b]\n",
            r"9: lazy.rows\[1\]\[0\]: 'b' and 'a' share an LLM, so they must",
        ),
        ("lazy:\n  rows:\n  - []\n  - [a, b, c]\n", r"8: lazy.rows\[0\]: List should have at least 1"),
        ("lazy: {rows: []}\n", "6: lazy.rows: List should have at least 1"),
        ("lazy: {flip_risk: 0.5}\n", "6: lazy.flip_risk: Input should be less than 0.5"),
        ("lazy: {row: [[a]]}\n", "6: lazy.row: unknown key; did you mean 'rows'"),
    ],
)
def test_rows_that_cannot_be_are_refused_at_their_line(tmp_path: Path, section: str, problem: str) -> None:
    with pytest.raises(DeploymentError, match=f"deploy.yaml:{problem}"):
        load_deployment(write(tmp_path, section))


def test_a_member_cannot_have_the_name_of_a_copy(tmp_path: Path) -> None:
    file = write(tmp_path, "")
    file.write_text(file.read_text("utf-8").replace("name: c", "name: delta__next"), encoding="utf-8")
    with pytest.raises(DeploymentError, match="'delta__next': __next ends the names of copies"):
        load_deployment(file)


@pytest.mark.parametrize("name", LAZY_CHANNELS)
def test_a_member_cannot_have_the_name_of_a_channel(tmp_path: Path, name: str) -> None:
    file = write(tmp_path, "")
    file.write_text(file.read_text("utf-8").replace("name: c", f"name: {name}"), encoding="utf-8")
    with pytest.raises(DeploymentError, match="is one of quorum's own models"):
        load_deployment(file)

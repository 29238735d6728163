# SPDX-License-Identifier: Apache-2.0
"""Tables of figures keep the names of their rows, whatever the width of the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text
from support.deployment import table, write_jsonl

from quorum.cli import console, figures

NAMES = ("best member: smollm2-adapter", "encoder alone: enc-compat", "majority")
HEADS = ("macro-f1", "accuracy", "micro-f1", "to best member")


def printed(monkeypatch: pytest.MonkeyPatch, width: int) -> str:
    console = Console(width=width, markup=False, no_color=True)
    monkeypatch.setattr(figures, "out", console)
    shares = ["44.4 [41.2, 46.9]", "80.0 [70.0, 88.3]", "79.0 [70.0, 88.3]", "-5.7 [-10.2, -1.7]"]
    with console.capture() as caught:
        figures.show_figures("compatibility, %", HEADS, [(Text(name), shares) for name in NAMES])
    return caught.get()


@pytest.mark.parametrize("width", [80, 200])
def test_no_word_of_a_name_and_no_figure_is_broken(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    text = printed(monkeypatch, width)
    assert max(map(len, text.splitlines())) <= width
    words = {word for name in NAMES for word in name.split()}
    assert words | set(" ".join(HEADS).split()) <= set(text.split())
    assert text.count("[-10.2, -1.7]") == text.count("-5.7") == len(NAMES)
    assert ("44.4 [41.2, 46.9]" in text) == (width == 200)


@pytest.mark.parametrize("width", [60, 80])
def test_no_two_members_become_one_name(
    folder: Path, run: Any, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr(console.out, "_width", width)
    members = [f"catalogue-llama-3.1-8b-instruct-{kind}" for kind in ("fp8", "fp16", "awq")]
    rows = table(members, 20)
    for row in rows:
        row["scores"] = dict.fromkeys(members, -0.1)
    write_jsonl(folder / "scored.jsonl", rows)
    code, out, err = run("evaluate", "scored.jsonl", "--folds", 2, "--methods", "majority")
    assert code == 0, err
    assert "AUROC" in out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= width

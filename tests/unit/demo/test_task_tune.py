# SPDX-License-Identifier: Apache-2.0
"""The commands that tune the members: side by side, as the README shows them, all ended when one fails."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import task_tune
from task_tune import LANES, LLM, Recipe, TuneFailedError, tune_all

README = Path(task_tune.__file__).with_name("README.md")
CARD = '{"rows": 2, "scores": {"relevance": {"accuracy": 0.25, "macro_f1": 0.5}}}'
TUNE = f"""#!/bin/sh
echo "threads $OMP_NUM_THREADS"
for word; do case $before in --out) out=$word;; esac; before=$word; done
echo "$@" > command-$(basename $out)
case $out in
*/bad) while [ ! -s slow.pid ]; do sleep 0.05; done; echo "the reason" >&2; exit 3;;
*/slow) echo $$ > slow.pid; exec sleep 60;;
esac
mkdir -p $out && echo '{CARD}' > $out/card.json
"""


def recipe(member: str) -> Recipe:
    return Recipe(member, "minilm", "relevance", "relevance", rows=2, epochs=1)


@pytest.fixture(autouse=True)
def _fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "quorum"
    script.write_text(TUNE)
    script.chmod(0o755)
    monkeypatch.setattr(task_tune, "QUORUM", script)


def test_every_recipe_is_run_with_one_thread_and_reported(tmp_path: Path) -> None:
    lines: list[str] = []
    done = tune_all(tmp_path, lines.append, [[recipe("a"), recipe("b")], [recipe("c")]])
    assert sorted(one.recipe.member for one in done) == ["a", "b", "c"]
    assert done[0].card["rows"] == 2
    assert any(line.startswith("b: 2 examples") and "relevance 50 %" in line for line in lines)
    assert (tmp_path / "tune-a.log").read_text() == "threads 1\n"
    assert (tmp_path / "command-a").read_text() == (
        "tune relevance data/relevance-train.jsonl --base bases/minilm --out tuned/a --rows 2 --epochs 1\n"
    )


def test_a_failure_shows_its_reason_and_ends_the_others(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(TuneFailedError, match="failed: quorum tune relevance") as caught:
        tune_all(tmp_path, lambda _: None, [[recipe("slow")], [recipe("bad"), recipe("b")]])
    assert "the reason" in str(caught.value)
    assert time.monotonic() - start < 30
    assert not (tmp_path / "tuned" / "b").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "slow.pid").read_text()), 0)


def parsed(words: Sequence[str]) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """A command's words before its options, and the options in order of their names."""
    split = [part for word in words for part in (word.split("=", 1) if word.startswith("--mix=") else [word])]
    first = next(at for at, word in enumerate(split) if word.startswith("-"))
    return tuple(split[:first]), sorted(zip(split[first::2], split[first + 1 :: 2], strict=True))


def test_the_readme_shows_the_commands_that_are_run() -> None:
    lines = README.read_text().replace("\\\n", " ").splitlines()
    shown = [parsed(shlex.split(line)) for line in lines if line.startswith("quorum tune ")]
    for recipe in (own for lane in LANES for own in lane):
        assert parsed(recipe.command()) in shown, recipe.member
    assert LLM in LANES[0]

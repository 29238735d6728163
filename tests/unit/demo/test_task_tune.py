# SPDX-License-Identifier: Apache-2.0
"""The commands that tune the members: side by side, as the README shows them, all ended when one fails."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import task_tune
from task_tune import LANES, LLM, Recipe, TuneFailedError, tune_all

README = Path(task_tune.__file__).with_name("README.md")
CARD = '{"rows": 2, "scores": {"relevance": {"accuracy": 0.25, "macro_f1": 0.5}}}'
TUNE = f"""#!/bin/sh
echo "threads $OMP_NUM_THREADS"
for word; do case $before in --out) out=$word;; esac; before=$word; done
case $out in */bad) echo "the reason" >&2; exit 3;; */slow) exec sleep 60;; esac
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


def test_a_failure_shows_its_reason_and_ends_the_others(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(TuneFailedError, match="failed: quorum tune relevance") as caught:
        tune_all(tmp_path, lambda _: None, [[recipe("slow")], [recipe("bad"), recipe("b")]])
    assert "the reason" in str(caught.value)
    assert time.monotonic() - start < 30
    assert not (tmp_path / "tuned" / "b").exists()


def test_the_readme_shows_the_commands_that_are_run() -> None:
    shown = " ".join(README.read_text().replace("\\\n", " ").split())
    for lane in LANES:
        for own in lane:
            words = [word for part in own.command() for word in part.replace("--mix=", "--mix ").split()]
            for word in words:
                assert word in shown, word
    assert " ".join(LLM.command()[:4]) in shown

# SPDX-License-Identifier: Apache-2.0
"""Tune the members of the tasks' deployment with ``quorum tune``, two at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

QUORUM = Path(sys.executable).with_name("quorum")
VALUES = "brand,color,gender"


class TuneFailedError(Exception):
    """A ``quorum tune`` ended with an error; the message has its last lines."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One run of ``quorum tune``.

    Attributes:
        member: Its folder in ``tuned/``.
        base: Folder of the base model in ``bases/``.
        task: Attributes, comma-separated, of which ``data/FILE-train.jsonl`` has the gold.
        file: That FILE.
        rows: Rows to train on, of each file.
        epochs: Passes over them.
        mix: More tasks for the same member, attribute -> FILE.
    """

    member: str
    base: str
    task: str
    file: str
    rows: int
    epochs: int
    mix: Mapping[str, str] = field(default_factory=dict)

    def command(self) -> list[str]:
        """The command line, to be run in the folder of ``deploy.yaml``."""
        mixed = [f"--mix={task}={_train(file)}" for task, file in self.mix.items()]
        return [
            *("quorum", "tune", self.task, _train(self.file), *mixed),
            *("--base", f"bases/{self.base}", "--out", f"tuned/{self.member}"),
            *("--rows", str(self.rows), "--epochs", str(self.epochs)),
        ]


@dataclass(frozen=True, slots=True)
class Tuned:
    """A finished run: its recipe, seconds in all, and ``card.json``."""

    recipe: Recipe
    seconds: float
    card: Mapping[str, Any]

    def in_words(self) -> str:
        """Rows, seconds and the headline figure of each task on held-out rows."""
        scores = self.card["scores"]
        figures = (f"{task} {100 * headline(found):.0f} %" for task, found in scores.items())
        rows = f"{self.card['rows']} examples"
        return f"{self.recipe.member}: {rows}, {self.seconds:.0f} s; held out: {', '.join(figures)}"


def headline(scores: Mapping[str, float]) -> float:
    """The figure that decides, of those of one task on a card."""
    return next(scores[name] for name in ("macro_f1", "f1", "rouge_l", "accuracy") if name in scores)


ENCODERS: Sequence[Recipe] = (
    Recipe("encoder-relevance", "minilm", "relevance", "relevance", rows=320, epochs=5),
    Recipe("encoder-entities", "minilm", "entities", "entities", rows=300, epochs=6),
    Recipe("encoder-attributes", "minilm", VALUES, "attributes", rows=250, epochs=3),
)
LLM = Recipe(
    "smollm2",
    "smollm2",
    VALUES,
    "attributes",
    rows=28,
    epochs=1,
    mix={"entities": "entities", "relevance": "relevance", "description": "descriptions"},
)
LANES: Sequence[Sequence[Recipe]] = ((LLM,), ENCODERS)
"""Recipes of one lane run one after another, lanes side by side: one core each."""


def tune_all(
    folder: Path, note: Callable[[str], None], lanes: Sequence[Sequence[Recipe]] = LANES
) -> list[Tuned]:
    """Run all recipes in ``folder``, which holds ``deploy.yaml``, ``bases/`` and ``data/``.

    Raises:
        TuneFailedError: One failed; the others are ended.
    """
    waiting = [list(lane) for lane in lanes]
    running: dict[int, tuple[Recipe, subprocess.Popen[bytes], float]] = {}
    done: list[Tuned] = []
    try:
        while True:
            for lane, left in enumerate(waiting):
                if lane not in running and left:
                    recipe = left.pop(0)
                    running[lane] = (recipe, _start(folder, recipe), time.monotonic())
            if not running:
                return done
            for lane, (recipe, process, start) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[lane]
                done.append(_finished(folder, recipe, process, time.monotonic() - start))
                note(done[-1].in_words())
            time.sleep(0.1)
    finally:
        for _, process, _ in running.values():
            process.kill()
            process.wait()


def _train(file: str) -> str:
    return f"data/{file}-train.jsonl"


def _log(folder: Path, recipe: Recipe) -> Path:
    return folder / f"tune-{recipe.member}.log"


def _start(folder: Path, recipe: Recipe) -> subprocess.Popen[bytes]:
    # One core each: threads beyond the cores at hand slow PyTorch down many times.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with _log(folder, recipe).open("wb") as log:
        return subprocess.Popen(
            [str(QUORUM), *recipe.command()[1:]],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _finished(folder: Path, recipe: Recipe, process: subprocess.Popen[bytes], seconds: float) -> Tuned:
    if process.returncode:
        last = _log(folder, recipe).read_text("utf-8", "replace").splitlines()[-12:]
        raise TuneFailedError("\n".join([f"failed: {' '.join(recipe.command())}", *last]))
    card = json.loads((folder / "tuned" / recipe.member / "card.json").read_text("utf-8"))
    return Tuned(recipe, seconds, card)

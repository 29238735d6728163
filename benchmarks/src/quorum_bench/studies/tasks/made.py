# SPDX-License-Identifier: Apache-2.0
"""Tune members, and keep them by the hash of what they were made of, with the CPU time that it took."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from quorum.files import write_atomic
from quorum.tasks.catalogue import Catalogue
from quorum.tune.base import read_base
from quorum.tune.card import CARD_FILE, Card, read_card
from quorum.tune.causal import CausalOptions, tune_causal
from quorum.tune.data import TrainingData
from quorum.tune.encoder import EncoderOptions, tune_encoder
from quorum.tune.loop import Progress, Step

_SAVED_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Made:
    """A tuned member.

    Attributes:
        folder: As its runtime serves it.
        cpu_s: CPU seconds of tuning: reading, training, judging held-out rows, writing. Of a run that was
            interrupted, all its parts.
        card: Of the training.
    """

    folder: Path
    cpu_s: float
    card: Card

    def to_json(self) -> dict[str, Any]:
        """Figures of the card that a table shows."""
        return {
            "cpu_s": round(self.cpu_s, 1),
            "rows": self.card.rows,
            "held_out_rows": self.card.held_out_rows,
            "left_out": self.card.left_out,
            "steps": self.card.steps,
            "seed": self.card.seed,
            "data_hash": self.card.data_hash,
        }


class Cache:
    """Tuned members in a folder.

    Args:
        folder: Made if need be.
        notice: Called with a line as members are made.
    """

    def __init__(self, folder: Path, notice: Callable[[str], None] = lambda _: None) -> None:
        self.folder, self._notice = folder, notice

    @property
    def sources(self) -> Path:
        """Folder for listings."""
        return self.folder / "listings"

    def make(self, name: str, parts: object, tune: Callable[[Path, Progress], Any]) -> Made:
        """Tune a member unless it is kept already.

        Args:
            name: For people.
            parts: Everything that the member follows from, as JSON has it.
            tune: Given its folder and what to call after each step; writes folder and card.
        """
        out = self.folder / f"{name}-{_key(parts)}"
        clock = out.with_name(f"{out.name}.cpu.json")
        done = (out / CARD_FILE).is_file() and read_card(out).steps > 0 and clock.is_file()
        if done and json.loads(clock.read_text("utf-8"))["done"]:
            return Made(out, _read(clock), read_card(out))
        self.folder.mkdir(parents=True, exist_ok=True)
        timer = Timer(clock, lambda step: self._notice(_in_words(name, step)))
        tune(out, timer.step)
        return Made(out, timer.stop(), read_card(out))

    def encoder(
        self,
        name: str,
        base: Path,
        data: TrainingData,
        path: Path,
        catalogue: Catalogue,
        options: EncoderOptions,
    ) -> Made:
        """Tune an encoder, on one thread."""
        import torch

        torch.set_num_threads(1)
        found = read_base(base, "encoder")
        parts = [found.hash, data.data_hash, catalogue.hash, chosen(options)]
        return self.make(
            name,
            parts,
            lambda out, progress: tune_encoder(found, data, path, catalogue, out, options, progress),
        )

    def adapter(
        self,
        name: str,
        base: Path,
        data: TrainingData,
        path: Path,
        catalogue: Catalogue,
        options: CausalOptions,
    ) -> Made:
        """Tune an adapter of an LLM, on one thread."""
        found = read_base(base, "causal")
        parts = [found.hash, data.data_hash, catalogue.hash, chosen(options)]
        return self.make(
            name,
            parts,
            lambda out, progress: tune_causal(found, data, path, catalogue, out, options, progress),
        )

    def kept(self, name: str, parts: object, compute: Callable[[], Any]) -> Any:
        """JSON values that were computed before from the same parts, or are now.

        Args:
            name: For people.
            parts: Everything that the values follow from, as JSON has it.
            compute: Gives the values.
        """
        path = self.folder / f"{name}-{_key(parts)}.json"
        if path.is_file():
            return json.loads(path.read_text("utf-8"))
        self._notice(name)
        values = compute()
        write_atomic(path, json.dumps(values, ensure_ascii=False) + "\n")
        return json.loads(path.read_text("utf-8"))


class Timer:
    """Adds up the CPU time of a run and of its interrupted parts, in a file."""

    def __init__(self, path: Path, notice: Callable[[Step], None]) -> None:
        self._path, self._notice = path, notice
        self._before = _read(path)
        self._start, self._saved = time.process_time(), time.monotonic()

    def step(self, step: Step) -> None:
        """Note the time, now and then."""
        if time.monotonic() - self._saved >= _SAVED_EVERY_S:
            self._write(done=False)
            self._saved = time.monotonic()
            self._notice(step)

    def stop(self) -> float:
        """CPU seconds in all."""
        return self._write(done=True)

    def _write(self, *, done: bool) -> float:
        spent = round(self._before + time.process_time() - self._start, 2)
        write_atomic(self._path, json.dumps({"cpu_s": spent, "done": done}) + "\n")
        return spent


def chosen(options: EncoderOptions | CausalOptions) -> dict[str, Any]:
    """Settings other than the usual ones, so that a new setting makes no other member."""
    usual = asdict(type(options)())
    return {name: value for name, value in asdict(options).items() if value != usual[name]}


def _key(parts: object) -> str:
    content = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _read(path: Path) -> float:
    return float(json.loads(path.read_text("utf-8"))["cpu_s"]) if path.is_file() else 0.0


def _in_words(name: str, step: Step) -> str:
    return f"{name}: step {step.done} of {step.total}, loss {step.loss:.3f}, {step.eta:.0f} s left"

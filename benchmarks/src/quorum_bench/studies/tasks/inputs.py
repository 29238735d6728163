# SPDX-License-Identifier: Apache-2.0
"""What all parts of the study share: where data, bases and members are, and how much is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorum_bench.studies.tasks.made import Cache

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is done.

    Attributes:
        seeds: Of each encoder.
        queryner: Numbers of rows that encoders are tuned on; None: all.
        relevance: The same.
        products: Products of AE-110K that encoders are tuned on; None: all.
        adapter: Numbers of rows that an LLM is tuned on; (): it is left out.
        asked: Rows that an LLM is asked about.
        shots: Worked examples in the prompt of the LLM that is not tuned.
        draws: Of the labels that weights are learned from.
        merges: Methods.
        merge_asked: Rows of each task that merged adapters are asked about.
        esci: Numbers of ESCI's judgements that encoders are tuned on, where its files are given.
        esci_asked: Of its test judgements.
    """

    seeds: int
    queryner: tuple[int | None, ...]
    relevance: tuple[int | None, ...]
    products: int | None
    adapter: tuple[int, ...]
    asked: int
    shots: int = 4
    draws: int = 20
    merges: tuple[str, ...] = ()
    merge_asked: int = 40
    esci: tuple[int, ...] = (1000, 10_000)
    esci_asked: int = 2000


SHORT = Effort(
    seeds=1, queryner=(320, 1000), relevance=(640,), products=400, adapter=(160,), asked=40, draws=5,
    merges=("ties",),
)  # fmt: skip
LONG = Effort(
    seeds=3, queryner=(320, 1000, 3000, None), relevance=(None,), products=None, adapter=(320,), asked=100,
    merges=("linear", "ties", "dare_linear", "dare_ties", "cat", "svd"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where everything is.

    Attributes:
        data: Folder with ``ae-110k`` and ``tasks``.
        bases: Folder with ``minilm`` and ``smollm2``, as ``examples/tasks/bases.py`` makes them.
        cache: Tuned members.
        effort: How much is done.
        esci: Folder with ESCI's official files; None: the user has none.
    """

    data: Path
    bases: Path
    cache: Cache
    effort: Effort
    esci: Path | None = None

    @property
    def encoder(self) -> Path:
        """The small encoder."""
        return self._base("minilm")

    @property
    def llm(self) -> Path:
        """The small LLM."""
        return self._base("smollm2")

    @property
    def votes(self) -> Path:
        """Recorded votes of LLMs on AE-110K, with gold."""
        return self._file("ae-110k/votes.jsonl")

    @property
    def unlabelled(self) -> Path:
        """The same without gold, of other cells."""
        return self._file("ae-110k/votes-unlabelled.jsonl")

    def _base(self, name: str) -> Path:
        folder = self.bases / name
        if not (folder / "config.json").is_file():
            raise ValueError(
                f"{folder} holds no model; make it by `python examples/tasks/bases.py {self.bases}`"
            )
        return folder

    def _file(self, name: str) -> Path:
        path = self.data / name
        if not path.is_file():
            raise ValueError(
                f"{path} is missing; name the folder of the public data by --data or QUORUM_DATA"
            )
        return path

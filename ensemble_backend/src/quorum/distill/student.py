# SPDX-License-Identifier: Apache-2.0
"""Train a student on lessons: pairs of items and keyphrases with targets, one lesson for each task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.distill.options import Loss, Method, Task
from quorum.evaluation.relevance import pearson
from quorum.retrieval.vectors import Vectors
from quorum.runtimes.encoder_folder import SCHEMA_VERSION, TOKENIZER_FILE, EncoderFile
from quorum.runtimes.encoder_input import EncoderInput
from quorum.runtimes.heads import Encoded
from quorum.tune.base import Base, loading
from quorum.tune.encoder import has_bfloat16
from quorum.tune.encoder_folder import predict
from quorum.tune.loop import LoopOptions, Progress, Trained, train

if TYPE_CHECKING:
    import torch

Rows = npt.NDArray[np.int64]
EPOCHS: dict[Method, int] = {"adapter": 6, "layers": 1}
RATES: dict[Method, float] = {"adapter": 5e-4, "layers": 1e-4}


@dataclass(frozen=True, slots=True)
class Lesson:
    """Pairs of one task.

    Attributes:
        task: Its name.
        items: (n,) rows of the items' texts.
        keyphrases: (n,) rows of the keyphrases.
        targets: (n,) float32.
        weight: Of its loss, above 0.
    """

    task: Task
    items: Rows
    keyphrases: Rows
    targets: npt.NDArray[np.float32]
    weight: float = 1.0

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.targets)


def joined(parts: Sequence[Lesson], weight: float) -> Lesson:
    """One lesson of several of one task."""
    return Lesson(
        parts[0].task,
        np.concatenate([part.items for part in parts]),
        np.concatenate([part.keyphrases for part in parts]),
        np.concatenate([part.targets for part in parts]),
        weight,
    )


class FitOptions(NamedTuple):
    """Settings of :meth:`Student.fit`; see :class:`quorum.distill.options.DistillOptions`."""

    loss: Loss
    dims: tuple[int, ...]
    epochs: int
    learning_rate: float
    batch: int
    seed: int


class Student:
    """A base with mean pooling and an adapter on its vectors."""

    def __init__(self, base: Base, method: Method, dims: int, max_tokens: int) -> None:
        """Load the base.

        Raises:
            BaseModelError: A file of the base is damaged.
        """
        import torch
        from tokenizers import Tokenizer

        from quorum.distill.student_model import Adapter, load_pooled

        self.method = method
        self.tokenizer = base.folder / TOKENIZER_FILE
        with loading(self.tokenizer):
            described = EncoderFile(
                schema_version=SCHEMA_VERSION, head="label", attributes=("text",), max_tokens=max_tokens
            )
            self.inputs = EncoderInput(Tokenizer.from_file(str(self.tokenizer)), described)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self.base = load_pooled(base.folder, method).to(self._device)
        self.adapter = Adapter(self.base.size, min(dims, self.base.size)).to(self._device)
        if method == "layers":
            self.adapter.requires_grad_(False)

    def base_vectors(self, texts: Sequence[str]) -> Vectors:
        """(n, d) vectors of the base as it is now, without the adapter."""
        import torch

        def compute(ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
            with torch.inference_mode():
                found: npt.NDArray[np.float32] = self.pool(ids, mask).cpu().numpy()
            return found

        self.base.eval()
        encoded = [self.inputs.encode(text) for text in texts]
        return np.stack(predict(compute, self.inputs, encoded)).astype(np.float32)

    def adapted(self, items: Vectors, keyphrases: Vectors) -> tuple[Vectors, Vectors]:
        """Vectors of the base to the student's, (n, dims), not normalised."""
        import torch

        with torch.inference_mode():
            return (
                self.adapter(self.tensor(items)).cpu().numpy(),
                self.adapter(self.tensor(keyphrases)).cpu().numpy(),
            )

    def fit(
        self,
        texts: Texts,
        lessons: Sequence[Lesson],
        check: Lesson,
        options: FitOptions,
        folder: Path,
        fingerprint: str,
        progress: Progress | None = None,
    ) -> Trained:
        """Train on all lessons at once; the weights of the epoch that is best on ``check`` are kept.

        A step takes a batch of the longest lesson, and draws as many pairs of each other one; the loss is
        taken for each lesson alone, as their targets have scales of their own.

        Args:
            texts: What the lessons' rows are of.
            lessons: At least one, of two pairs or more.
            check: Of other keyphrases.
            options: See there.
            folder: For the checkpoint.
            fingerprint: Of base, data and settings.
            progress: Called after each step.

        Raises:
            TrainingError: A checkpoint of another run is in the way, or the loss is no number.
        """
        import torch

        from quorum.distill.losses import nested_loss

        main, *others = sorted(lessons, key=len, reverse=True)
        source = _Frozen(self, texts) if self.method == "adapter" else _Layers(self, texts)
        targets = {lesson.task: self.tensor(lesson.targets) for lesson in lessons}

        def loss_on(lesson: Lesson, rows: npt.NDArray[np.int64]) -> Any:
            items, keyphrases = source.vectors(lesson.items[rows], lesson.keyphrases[rows])
            wanted = targets[lesson.task][torch.from_numpy(rows).to(self._device)]
            return lesson.weight * nested_loss(options.loss, items, keyphrases, wanted, options.dims)

        def loss_of(rows: Sequence[int]) -> Any:
            loss = loss_on(main, np.array(rows, np.int64))
            for lesson in others:
                # The loop seeds PyTorch before each step, so that a run that goes on draws the same.
                loss = loss + loss_on(lesson, torch.randint(len(lesson), (options.batch,)).numpy())
            return loss

        def score() -> float:
            items, keyphrases = source.vectors(check.items, check.keyphrases)
            close = torch.nn.functional.cosine_similarity(items, keyphrases).cpu().numpy()
            found = pearson(close, check.targets)
            return found if np.isfinite(found) else 0.0

        loop = LoopOptions(
            epochs=options.epochs,
            batch=options.batch,
            learning_rate=options.learning_rate,
            bfloat16=self.method == "layers" and has_bfloat16(),
            seed=options.seed,
        )
        lengths = source.lengths(main)
        return train(source.trained, loss_of, lengths, score, loop, folder, fingerprint, progress)

    def pool(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> torch.Tensor:
        """(rows, d) vectors of the base for token ids and attention mask, where the model lies."""
        import torch

        return self.base(torch.from_numpy(ids).to(self._device), torch.from_numpy(mask).to(self._device))

    def tensor(self, values: npt.NDArray[np.float32]) -> torch.Tensor:
        """Values where the model lies."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self._device)


@dataclass(frozen=True, slots=True)
class Texts:
    """What rows of lessons are of.

    Attributes:
        items: (I,) texts.
        keyphrases: (K,).
        item_vectors: (I, d) of the base, not normalised.
        keyphrase_vectors: (K, d).
    """

    items: Sequence[str]
    keyphrases: Sequence[str]
    item_vectors: Vectors
    keyphrase_vectors: Vectors


class _Frozen:
    """Vectors of the frozen base, computed once, through the adapter."""

    def __init__(self, student: Student, texts: Texts) -> None:
        self.trained = student.adapter
        self._items = student.tensor(texts.item_vectors)
        self._keyphrases = student.tensor(texts.keyphrase_vectors)

    def vectors(self, items: Rows, keyphrases: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        return self.trained(self._items[items]), self.trained(self._keyphrases[keyphrases])

    def lengths(self, lesson: Lesson) -> list[int]:
        return [1] * len(lesson)


class _Layers:
    """Vectors computed anew in each step."""

    def __init__(self, student: Student, texts: Texts) -> None:
        self.trained, self._student = student.base, student
        self._items = [student.inputs.encode(text) for text in texts.items]
        self._keyphrases = [student.inputs.encode(text) for text in texts.keyphrases]

    def vectors(self, items: Rows, keyphrases: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        dims = self._student.adapter.dims
        return self._pool(self._items, items)[:, :dims], self._pool(self._keyphrases, keyphrases)[:, :dims]

    def lengths(self, lesson: Lesson) -> list[int]:
        return [len(self._items[row].ids) for row in lesson.items]

    def _pool(self, encoded: Sequence[Encoded], rows: Rows) -> torch.Tensor:
        names, places = np.unique(rows, return_inverse=True)
        # A keyphrase of several pairs is computed once.
        return self._student.pool(*self._student.inputs.pad([encoded[row] for row in names]))[places]

# SPDX-License-Identifier: Apache-2.0
"""The cross-encoder that reads item and keyphrase together: trained on the judge's labels, labels many pairs.

It is the base with a linear head of two labels. The cross-entropy with the soft labels (1 - p, p) is the
binary cross-entropy of the difference of its logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quorum.decision.catalogue_change import OUTSIDE
from quorum.evaluation.relevance import pearson
from quorum.runtimes.encoder_folder import SCHEMA_VERSION, TOKENIZER_FILE, EncoderFile, write_encoder
from quorum.runtimes.encoder_input import EncoderInput
from quorum.runtimes.heads import Encoded
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.default import Default
from quorum.tune.base import Base, BaseModelError, loading
from quorum.tune.encoder import has_bfloat16
from quorum.tune.encoder_folder import compute_by, predict, save_tokenizer, separator_of, write_network
from quorum.tune.loop import LoopOptions, Progress, Trained, train
from quorum.tune.tuned_on import question_hash

if TYPE_CHECKING:
    from quorum.tune.encoder_model import Network

_RATE = 1e-4
_BATCH = 32


@dataclass(frozen=True, slots=True)
class PairTexts:
    """Texts of P pairs, with their labels.

    Attributes:
        items: (P,) texts of the items.
        keyphrases: (P,).
        labels: (P,) float32 in [0, 1].
    """

    items: Sequence[str]
    keyphrases: Sequence[str]
    labels: npt.NDArray[np.float32]


class Assistant:
    """A cross-encoder, trained or not."""

    def __init__(self, base: Base, asked: Default, max_tokens: int, seed: int) -> None:
        """Load the base.

        Args:
            base: An encoder.
            asked: What the judge was asked: the first and the last of its values are the labels of the head.
            max_tokens: Longest input, item and keyphrase together.
            seed: Of the head.

        Raises:
            BaseModelError: A file of the base is damaged.
        """
        import torch
        from tokenizers import Tokenizer

        from quorum.distill.assistant_model import load_pair_network

        self.described = EncoderFile(
            schema_version=SCHEMA_VERSION,
            head="label",
            attributes=(OUTSIDE,),
            labels=(asked.values[0], asked.values[-1]),
            max_tokens=max_tokens,
            catalogue={OUTSIDE: Catalogue.of([], default=asked).hashes[OUTSIDE]},
        )
        self._tokenizer = base.folder / TOKENIZER_FILE
        with loading(self._tokenizer):
            self._inputs = EncoderInput(Tokenizer.from_file(str(self._tokenizer)), self.described)
        torch.manual_seed(seed)
        separator = separator_of(self._tokenizer)
        if separator is None:
            raise BaseModelError(
                f"{self._tokenizer}: has no token [SEP] or </s> between two texts; name another --base"
            )
        self.network: Network = load_pair_network(base.folder, separator)
        self.network.to("cuda" if torch.cuda.is_available() else "cpu")

    def fit(
        self,
        pairs: PairTexts,
        check: PairTexts,
        folder: Path,
        fingerprint: str,
        epochs: int,
        seed: int,
        progress: Progress | None = None,
    ) -> Trained:
        """Train all layers on soft labels; the weights of the epoch that is best on ``check`` are kept.

        Args:
            pairs: To learn.
            check: Of other queries.
            folder: For the checkpoint.
            fingerprint: Of base, data and settings.
            epochs: Passes over the pairs.
            seed: Of their order.
            progress: Called after each step.

        Raises:
            TrainingError: A checkpoint of another run is in the way, or the loss is no number.
        """
        import torch

        encoded = self._encode(pairs.items, pairs.keyphrases)
        checked = self._encode(check.items, check.keyphrases)
        device = self.network.classifier.weight.device
        soft = torch.from_numpy(np.stack([1 - pairs.labels, pairs.labels], 1)).to(device)

        def loss_of(rows: Sequence[int]) -> Any:
            ids, mask = (
                torch.from_numpy(part).to(device) for part in self._inputs.pad([encoded[r] for r in rows])
            )
            return torch.nn.functional.cross_entropy(self.network(ids, mask), soft[list(rows)])

        def score() -> float:
            found = pearson(self._shares(checked), check.labels)
            # Labels that are all equal have no correlation; then the last epoch is as good as any.
            return found if np.isfinite(found) else 0.0

        options = LoopOptions(
            epochs=epochs, batch=_BATCH, learning_rate=_RATE, bfloat16=has_bfloat16(), seed=seed
        )
        lengths = [len(row.ids) for row in encoded]
        return train(self.network, loss_of, lengths, score, options, folder, fingerprint, progress)

    def label(self, items: Sequence[str], keyphrases: Sequence[str]) -> npt.NDArray[np.float32]:
        """(P,) chance that each pair has the highest grade, in [0, 1]."""
        self.network.eval()
        return self._shares(self._encode(items, keyphrases))

    def write(self, items: Sequence[str], keyphrases: Sequence[str], folder: Path) -> None:
        """Write the folder of an encoder; outputs for these pairs are compared with PyTorch.

        Raises:
            OnnxError: They differ.
        """
        write_network(self.network, self.described, self._inputs, self._encode(items, keyphrases), folder)
        save_tokenizer(self._tokenizer, folder)
        write_encoder(self.described, folder)

    def question_hashes(self, items: Sequence[str], keyphrases: Sequence[str]) -> frozenset[str]:
        """Of pairs, for :mod:`quorum.tune.tuned_on`."""
        return frozenset(question_hash(name, text) for text, name in zip(items, keyphrases, strict=True))

    def _encode(self, items: Sequence[str], keyphrases: Sequence[str]) -> list[Encoded]:
        """As a member is asked: the item is TEXT, and the keyphrase the name of an attribute."""
        return [
            self._inputs.encode(text, attribute=name) for text, name in zip(items, keyphrases, strict=True)
        ]

    def _shares(self, encoded: Sequence[Encoded]) -> npt.NDArray[np.float32]:
        import torch

        compute = compute_by(self.network)
        device = self.network.classifier.weight.device.type
        with torch.autocast(device, torch.bfloat16, enabled=has_bfloat16()):
            logits = np.stack(predict(compute, self._inputs, encoded)).astype(np.float64)
        return (1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))).astype(np.float32)

# SPDX-License-Identifier: Apache-2.0
"""Answer by an encoder that ``quorum tune`` made: an ONNX network of millions of weights, not an LLM."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from quorum.runtimes.base import Done, Question, RuntimeSettings
from quorum.runtimes.encoder_batch import Batcher, Job
from quorum.runtimes.encoder_engine import open_network
from quorum.runtimes.encoder_folder import TOKENIZER_FILE, open_folder
from quorum.runtimes.encoder_input import EncoderInput
from quorum.runtimes.heads import Encoded, Logits
from quorum.runtimes.options import EncoderOptions
from quorum.tasks.attribute import Attribute
from quorum.tasks.kinds import read
from quorum.tasks.parse import Vote
from quorum.tasks.score import rounded
from quorum_contract import Status
from quorum_contract.scores import valid_score

logger = logging.getLogger(__name__)


class _Row(NamedTuple):
    """One attribute of a question."""

    attribute: Attribute
    text: str
    encoded: Encoded


class EncoderRuntime:
    """Serves an encoder's folder, by :class:`quorum.runtimes.options.EncoderOptions`.

    A vote's score is the log-probability of its whole answer. Attributes that the encoder was not tuned for
    are ``NOT_ASKED``; an answer that the catalogue does not allow is ``UNPARSABLE``.
    """

    def __init__(self, settings: RuntimeSettings[EncoderOptions]) -> None:
        settings.check_files()
        self._member, self._catalogue = settings.member, settings.catalogue
        self._scores = settings.options.scores
        self._file, self._names = open_folder(settings)
        tokenizer = _tokenizer(settings)
        self._input = EncoderInput(tokenizer, self._file)
        self._compute = open_network(settings, self._file.dims)
        # Triton loads models side by side: that of the network may not be there yet.
        if not settings.options.triton:
            self._try(settings, tokenizer.get_vocab_size() - 1)
        self._batcher: Batcher[_Row, Vote] = Batcher(
            f"member {self._member}",
            settings.options.max_batch,
            self._answer,
            lambda row: len(row.encoded.ids),
            Vote("", Status.ERROR),
        )

    def submit(self, question: Question, done: Done) -> None:
        """Tokenise the question and queue it for the next batch, a row for each attribute."""
        votes = [Vote("", Status.NOT_ASKED)] * len(question.attributes)
        rows = {
            position: self._row(question, name)
            for position, name in enumerate(question.attributes)
            if name in self._names or (self._file.is_outside and self._catalogue.is_by_default(name))
        }
        if rows:
            self._batcher.submit(Job(question, done, rows, votes))
        else:
            done(votes)

    def close(self) -> None:
        """Stop after the batch that is being computed; questions in flight are dropped."""
        self._batcher.close()

    def _row(self, question: Question, name: str) -> _Row:
        encoded = self._input.encode(question.text, question.category, name)
        return _Row(self._catalogue.get(name), question.text, encoded)

    def _answer(self, rows: Sequence[_Row]) -> list[Vote]:
        ids, mask = self._input.pad([row.encoded for row in rows])
        logits = self._compute(ids, mask)
        return [self._vote(row, each) for row, each in zip(rows, logits, strict=True)]

    def _vote(self, row: _Row, logits: Logits) -> Vote:
        # Logits of padding, where each token has some, do not count.
        own = logits[: len(row.encoded.ids)] if logits.ndim > 1 else logits
        if not np.isfinite(own).all():
            logger.error("member %s: the network gives logits that are no numbers", self._member)
            return Vote("", Status.ERROR)
        answer = self._input.decode(row.encoded, logits)
        value = read(row.attribute, answer.value, row.text)
        if not value:
            return Vote("", Status.UNPARSABLE)
        score = valid_score(answer.score) if self._scores else None
        return Vote(value, Status.ANSWERED, None if score is None else rounded(score))

    def _try(self, settings: RuntimeSettings[EncoderOptions], last: int) -> None:
        """Compute the longest input of the last token, which a network with fewer of either cannot."""
        tokens = np.full((1, self._file.max_tokens), last, np.int64)
        folder = settings.root / settings.options.model
        try:
            shape = self._compute(tokens, np.ones_like(tokens)).shape
        except Exception as error:
            raise settings.error(
                f"the network in {folder} fails for {self._file.max_tokens} tokens of number {last}"
                f" ({error!s:.200}); lower `max_tokens`, or tune it again with `quorum tune`"
            ) from error
        expected = (1, *[self._file.max_tokens] * (self._file.dims - 2), self._file.outputs)
        if shape != expected:
            raise settings.error(
                f"the network in {folder} has logits {list(shape)}, and encoder.json needs {list(expected)}:"
                " make both by one run of `quorum tune`"
            )


def _tokenizer(settings: RuntimeSettings[EncoderOptions]) -> Any:
    path = settings.root / settings.options.model / TOKENIZER_FILE
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        raise settings.error(
            f"{path} is no tokenizer ({error!s:.200}); make it again with `quorum tune`"
        ) from error

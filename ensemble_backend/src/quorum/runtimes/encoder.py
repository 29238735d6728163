# SPDX-License-Identifier: Apache-2.0
"""Answer by an encoder that ``quorum tune`` made, an ONNX network of millions of parameters, not by an LLM."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from quorum.runtimes.base import Done, Question, RuntimeConfigError, RuntimeSettings
from quorum.runtimes.encoder_batch import Batcher, Job
from quorum.runtimes.encoder_engine import Logits, Network, Tokens, open_network
from quorum.runtimes.encoder_folder import EncoderFile, EncoderFileError, answerable, read_encoder
from quorum.runtimes.encoder_input import EncodedText, EncoderInput, InputError
from quorum.runtimes.options import EncoderOptions
from quorum.tasks.attribute import Attribute
from quorum.tasks.kinds import read
from quorum.tasks.parse import Vote
from quorum.tasks.score import rounded
from quorum_contract import Status
from quorum_contract.scores import valid_score

logger = logging.getLogger(__name__)


class _Row(NamedTuple):
    """One attribute of one question."""

    attribute: Attribute
    text: str
    encoded: EncodedText


class EncoderRuntime:
    """Serves an encoder's folder, by :class:`quorum.runtimes.options.EncoderOptions`.

    A vote's score is the log-probability of the whole answer. Attributes that the encoder was not tuned for
    are ``NOT_ASKED``, answers that the catalogue does not allow ``UNPARSABLE``.
    """

    def __init__(self, settings: RuntimeSettings[EncoderOptions]) -> None:
        settings.check_files()
        self._member, self._options, self._catalogue = settings.member, settings.options, settings.catalogue
        self._file, self._names, self._input = _read(settings)
        self._network = open_network(settings, self._file.dims)
        self._check_outputs(settings)
        self._batcher: Batcher[_Row] = Batcher(
            self._member, self._options.max_batch, self._compute, lambda row: len(row.encoded.ids)
        )

    def submit(self, question: Question, done: Done) -> None:
        """Tokenise the question, and hand it to the thread that computes."""
        votes = [Vote("", Status.NOT_ASKED)] * len(question.attributes)
        rows = {
            position: self._row(question, name)
            for position, name in enumerate(question.attributes)
            if name in self._names
        }
        if rows:
            self._batcher.submit(Job(question, done, rows, votes))
        else:
            done(votes)

    def close(self) -> None:
        """Stop computing; questions in flight are dropped."""
        self._batcher.close()

# SPDX-License-Identifier: Apache-2.0
"""Turn rows with gold into the tokens that an LLM learns: the prompt that serving asks, and the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from quorum.runtimes.chat import ChatTokenizer
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import answer_text, kind_of
from quorum.tasks.prompt import Style, build_prompt
from quorum.tune.asking import Asked

MOST_SETS = 64


class Example(NamedTuple):
    """A prompt's tokens, and those of the answer with the token that ends it."""

    prompt: list[int]
    answer: list[int]

    @property
    def length(self) -> int:
        """Tokens of both."""
        return len(self.prompt) + len(self.answer)


def answer_of(catalogue: Catalogue, asked: Asked) -> str:
    """The answer to learn: the first acceptable one of each attribute."""
    raw = {row.attribute: kind_of(catalogue.get(row.attribute)).raw(row.answers[0]) for row in asked.rows}
    return answer_text(raw)


def encode(tokenizer: ChatTokenizer, end: int, catalogue: Catalogue, style: Style, asked: Asked) -> Example:
    """The tokens of one example; those of the prompt are the ones that serving gives to the LLM."""
    prompt = build_prompt(catalogue, style, asked.text, asked.category, asked.attributes)
    answer = tokenizer.encode_answer(answer_of(catalogue, asked))
    return Example(tokenizer.encode(prompt), [*answer, end])


def balanced(catalogue: Catalogue, asked: Sequence[Asked]) -> tuple[float, ...]:
    """How often to draw each row, 1 on average: labels of one attribute equally often, other rows once.

    Without it an LLM learns the commonest label first, since the answer is one token of many that are easy.

    Returns:
        (n,) weights; (): every row once, as no attribute has labels.
    """
    keys = [_label_of(catalogue, one) for one in asked]
    labels = Counter(key for key in keys if key is not None)
    if not labels:
        return ()
    rows = Counter(name for key in keys if key is not None for name in key[:1])
    kinds = Counter(name for name, _ in labels)
    return tuple(1.0 if key is None else rows[key[0]] / kinds[key[0]] / labels[key] for key in keys)


def _label_of(catalogue: Catalogue, asked: Asked) -> tuple[str, str] | None:
    """The first attribute of kind ``label``, and its label."""
    for row in asked.rows:
        if catalogue.get(row.attribute).kind == "label":
            return row.attribute, row.answers[0]
    return None


def sets_of(asked: Iterable[Asked]) -> list[tuple[str, ...]]:
    """The sets of attributes that are asked for together, each once, the commonest :data:`MOST_SETS`."""
    return [names for names, _ in Counter(one.attributes for one in asked).most_common(MOST_SETS)]

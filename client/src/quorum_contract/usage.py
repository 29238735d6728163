# SPDX-License-Identifier: Apache-2.0
"""What answers take: calls, tokens, seconds and money, per member; and prices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Spent(NamedTuple):
    """What one member's part in an answer took; None: not known.

    Attributes:
        calls: Questions that its runtime was asked: 0 for a member that was not asked, more than 1 where
            adapters share the attributes out. In votes tables a row has its share of the calls of its answer.
        prompt_tokens: Tokens of the prompts that an LLM read, cached ones included; 0 without an LLM.
        answer_tokens: Tokens that it generated.
        cached_tokens: Tokens of the prompts that a prefix cache held, where the LLM's server says so.
        seconds: Time that the runtime worked, shared out among the questions that it worked on at once.
        cost: In the currency of the deployment's prices.
    """

    calls: float = 0
    prompt_tokens: float | None = 0
    answer_tokens: float | None = 0
    cached_tokens: float | None = 0
    seconds: float | None = 0.0
    cost: float | None = None

    @property
    def tokens(self) -> float | None:
        """Prompt and answer tokens together."""
        both = (self.prompt_tokens, self.answer_tokens)
        return None if None in both else sum(filter(None, both))

    def share(self, parts: int) -> Spent:
        """One of so many equal parts of it."""
        return Spent(self.calls / parts, *(None if x is None else x / parts for x in self[1:]))


NOTHING = Spent()
"""Of a member that was not called."""
CALLED = Spent(1, None, None, None, None)
"""A call of which nothing more is known, such as one that was not waited for."""


def add_up(parts: Iterable[Spent]) -> Spent:
    """The sum; a figure that is not known of one part is not known."""
    columns = list(zip(*parts, strict=True))
    if not columns:
        return Spent(cost=0.0)
    calls, *rest = columns
    return Spent(sum(calls), *(None if None in column else sum(column) for column in rest))


class Price(NamedTuple):
    """Prices of a member's calls in one currency; the parts add up.

    Attributes:
        per_call: For each call.
        per_1k_prompt_tokens: For a thousand tokens of prompt.
        per_1k_answer_tokens: For a thousand generated tokens.
        per_second: For each second of work.
        per_1k_cached_tokens: For a thousand tokens of prompt that a prefix cache held; None: as of others.
    """

    per_call: float = 0.0
    per_1k_prompt_tokens: float = 0.0
    per_1k_answer_tokens: float = 0.0
    per_second: float = 0.0
    per_1k_cached_tokens: float | None = None

    def of(self, spent: Spent) -> float | None:
        """What it costs; None where a figure that has a price is not known."""
        calls, prompt, answer, cached, seconds, _ = spent
        if cached and prompt is not None:
            cached = min(cached, prompt)
        if not calls:
            return 0.0
        cost = self.per_call * calls
        # Written out, as every answer is priced.
        if self.per_1k_prompt_tokens:
            if prompt is None:
                return None
            cost += self.per_1k_prompt_tokens * prompt / 1e3
        if self.per_1k_cached_tokens is not None:
            if cached is None:
                return None
            cost += (self.per_1k_cached_tokens - self.per_1k_prompt_tokens) * cached / 1e3
        if self.per_1k_answer_tokens:
            if answer is None:
                return None
            cost += self.per_1k_answer_tokens * answer / 1e3
        if self.per_second:
            if seconds is None:
                return None
            cost += self.per_second * seconds
        return cost

    def of_known(self, spent: Spent) -> float:
        """What it costs at least: what is not known of it counts as 0."""
        return self.of(Spent(*(figure or 0 for figure in spent))) or 0.0


FREE = Price()
"""The price of a member that runs no LLM, unless the deployment names one."""

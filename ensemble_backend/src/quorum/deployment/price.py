# SPDX-License-Identifier: Apache-2.0
"""Define prices and budgets of members in ``deploy.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from quorum.deployment.strict import Strict
from quorum_contract import Price

_LOWEST, _HIGHEST = 1e-12, 1e12


def _payable(rate: float) -> float:
    """A rate that sums and ratios of rates can be made of."""
    if rate and not _LOWEST <= rate <= _HIGHEST:
        raise ValueError(f"{rate:g} is no price; write 0, or {_LOWEST:g} to {_HIGHEST:g}")
    return rate


Rate = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_payable)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Calls = Annotated[int, Field(ge=1)]
WITHOUT_LLM = frozenset({"catalogue", "encoder"})
"""Runtimes whose members are free, unless ``deploy.yaml`` names a price."""


class PriceSpec(Strict):
    """What a member's calls cost, in a currency of the owner's choice; the parts add up.

    Attributes:
        per_call: For each call.
        per_1k_prompt_tokens: For a thousand tokens of prompt.
        per_1k_answer_tokens: For a thousand generated tokens.
        per_second: For each second that the member worked, such as a GPU's price; questions that it works on
            at once share its time.
        per_1k_cached_tokens: For a thousand tokens of prompt that a prefix cache held, as far as the LLM's
            server says so; None: as other tokens of the prompt.
    """

    per_call: Rate = 0.0
    per_1k_prompt_tokens: Rate = 0.0
    per_1k_answer_tokens: Rate = 0.0
    per_second: Rate = 0.0
    per_1k_cached_tokens: Rate | None = None

    def price(self) -> Price:
        """The price in the form that the vote uses."""
        return Price(**self.model_dump())


class BudgetSpec(Strict):
    """What a member may spend; beyond that it abstains with ``BUDGET``, until the minute or the day is over.

    Minutes and days are those of UTC.

    Attributes:
        per_minute: Money per minute, in the currency of the prices; None: no limit. It needs a price.
        per_day: Money per day.
        calls_per_minute: Calls per minute.
        calls_per_day: Calls per day.
    """

    per_minute: Amount | None = None
    per_day: Amount | None = None
    calls_per_minute: Calls | None = None
    calls_per_day: Calls | None = None

    @property
    def is_money(self) -> bool:
        """Whether it limits money, not only calls."""
        return self.per_minute is not None or self.per_day is not None

    @model_validator(mode="after")
    def _limits(self) -> BudgetSpec:
        if not any(limit is not None for limit in self.model_dump().values()):
            raise ValueError(f"a budget limits nothing; give one of {', '.join(type(self).model_fields)}")
        return self

# SPDX-License-Identifier: Apache-2.0
"""Define the price of a member's answers in ``deploy.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from quorum.deployment.strict import Strict

Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PriceSpec(Strict):
    """What a member's calls cost, in a currency of the owner's choice; the parts add up.

    Attributes:
        per_call: For each call.
        per_1k_prompt_tokens: For a thousand tokens of prompt.
        per_1k_answer_tokens: For a thousand generated tokens.
        per_second: For each second that the member worked on the call, such as a GPU's price.
    """

    per_call: Price = 0.0
    per_1k_prompt_tokens: Price = 0.0
    per_1k_answer_tokens: Price = 0.0
    per_second: Price = 0.0

# SPDX-License-Identifier: Apache-2.0
"""Define the section ``lazy`` of ``deploy.yaml``: channels that ask members in rows, while a vote is open."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from quorum.deployment.strict import Strict


class LazySpec(Strict):
    """The channels ``quorum_lazy`` and ``quorum_lazy_canary``.

    Attributes:
        rows: Members of each row, in the order of asking; None: by weight per cost of the channel's weights.
        flip_risk: Highest share of answers that may differ from those of all members; 0: none does.
    """

    rows: list[list[str]] | None = None
    flip_risk: Annotated[float, Field(ge=0, lt=0.5)] = 0.0

# SPDX-License-Identifier: Apache-2.0
"""What `quorum evaluate` says of cost: a table in the currency of the prices, or why there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command import quorum
from support.deployment import write_deployment
from support.scored import scored_table

from quorum.votes import write_votes

NO_COST = "no cost: the votes have no usage"


@pytest.mark.parametrize(
    ("price", "is_known"), [({"per_call": 0.5}, True), ({"per_1k_answer_tokens": 2.0}, False), (None, None)]
)
def test_the_cost_or_why_there_is_none(tmp_path: Path, price: Any, is_known: bool | None) -> None:
    table = scored_table(np.random.default_rng(0), 120, labelled=120)
    members = {name: {"price": price} if price else {} for name in table.members}
    write_deployment(tmp_path, members, currency="EUR")
    write_votes(table, tmp_path / "labelled.jsonl")
    out, err = quorum(tmp_path, "evaluate", "labelled.jsonl", "--methods", "majority")
    assert ("1000 answers, EUR" in out) == (is_known is True)
    assert (NO_COST in err) == (is_known is False)
    if is_known:
        rows = out[out.index("1000 answers, EUR") :].splitlines()
        figures = [tuple(row.split()[-4:]) for row in rows if row.strip()]
        assert len(figures) == len({*figures})

# SPDX-License-Identifier: Apache-2.0
"""The study of few labels counts draws that are below majority, and draws that cost an attribute."""

from __future__ import annotations

import numpy as np
import pytest

from quorum_bench.studies import labels


def test_draws_below_majority_and_draws_that_hurt_an_attribute_are_counted():
    majority = np.arange(200) % 2 == 0
    right = np.repeat(majority[None], 4, axis=0)
    right[1, 1:20:2] = True
    right[2, 0:6:2] = False
    right[3, 0:8:2], right[3, 101:200:2] = False, True
    halves = [("brand", np.arange(200) < 100), ("size", np.arange(200) >= 100)]
    found = labels._figures(right, majority, halves)
    # 3 of 100 cells lost are not yet more than 3 points, 4 are.
    assert (found["below"], found["hurt"]) == (1, 1)
    assert found["worst"] == ["brand", pytest.approx(-4.0)]
    assert found["lowest"] == 48.5
    row = {"table": "demo", "scores": False, "labels": 50, "majority": 50.0, "seeds": [50_000, 50_003]}
    row |= {"by_attribute": found, "common": found}
    assert "brand -4.0" in labels.demo_line(row)
    assert labels.demo_summary([row], 4).endswith("MISSED")
    good = found | {"mean": 90.0}
    assert labels.demo_summary([row | {"by_attribute": good}], 4).endswith("of 4: met")


def test_a_loss_of_more_than_a_tenth_of_a_point_on_alike_attributes_is_a_miss():
    row = {"labels": None, "majority": 84.3, "by_attribute": 85.4, "common": 85.5, "ece": 2.1}
    row |= {"gain": [-0.05, -0.2, 0.1], "worse": [], "attributes": {}}
    assert "all" in labels.real_line(row)
    assert "MISSED" not in labels.real_summary([row])
    assert labels.real_summary([row, row | {"gain": [-0.11, -0.2, 0.0]}]).count("MISSED") == 1
    assert labels.real_summary([row | {"worse": ["size"]}]).count("MISSED") == 1

# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them."""

from __future__ import annotations

import pytest

from quorum_bench.report.figures import number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0004, "0.0004"),
        (0.75, "0.750"),
        (0.99999, "1.00"),
        (1, "1.00"),
        (-2.345, "-2.35"),
        (12.34, "12.3"),
        (123.4, "123"),
        (1234567.8, "1 234 568"),
    ],
)
def test_number(value, text):
    assert number(value) == text

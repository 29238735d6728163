# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from quorum.cli.console import CommandError
from quorum.cli.options import parse_share


@pytest.mark.parametrize(
    ("text", "share"),
    [("5%", 0.05), ("0.05", 0.05), ("0%", 0), ("100%", 1), ("1", 1), ("0", 0), ("2.5%", 0.025)],
)
def test_shares_as_people_write_them(text: str, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["5", "-1%", "101%", "", "%", "nan", "nan%", "five"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(CommandError, match="such as 5% or"):
        parse_share(text)

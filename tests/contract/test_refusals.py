# SPDX-License-Identifier: Apache-2.0
"""The client's own copy of the wire contract says the same as the server's."""

from __future__ import annotations

import pytest

import quorum_client
import quorum_contract as contract
from quorum_client import _wire

NAMES = [
    "TEXT",
    "CATEGORY",
    "ATTRIBUTES",
    "VALUES",
    "CONFIDENCE",
    "MEMBERS",
    "MEMBER_VALUES",
    "MEMBER_STATUS",
    "WEIGHTS_VERSION",
    "CANARY_SHARE",
    "STABLE",
    "CANARY",
    "MAX_TEXT_BYTES",
    "MAX_CATEGORY_BYTES",
    "MAX_ATTRIBUTES",
    "MAX_ATTRIBUTE_BYTES",
]


@pytest.mark.parametrize("name", NAMES)
def test_same_constant(name: str) -> None:
    assert getattr(_wire, name) == getattr(contract, name)


def test_same_statuses() -> None:
    assert {s.name: s.value for s in quorum_client.Status} == {s.name: s.value for s in contract.Status}


def test_every_limit_is_mirrored() -> None:
    assert {name for name in vars(contract) if name.startswith("MAX_")} <= set(NAMES)


@pytest.mark.parametrize(
    "attributes",
    [
        ["brand"],
        ["größe", "n/a"],
        [],
        [" "],
        ["a", "a"],
        ["a\x7f"],
        ["a\x00"],
        [f"a{i}" for i in range(65)],
        ["color "],
        ["\xa0color"],
        ["color", "Color"],
        ["STRASSE", "straße"],
        ["shoe size"],
        ["a", "b"],
    ],
)
def test_both_refuse_the_same_attributes(attributes: list[str]) -> None:
    def refused(check: object, error: type[Exception], *args: object) -> bool:
        try:
            check(*args)  # type: ignore[operator]
        except error:
            return True
        return False

    server = refused(contract.check_attributes, contract.InvalidRequest, attributes)
    client = refused(_wire._encode_attributes, quorum_client.InvalidRequest, attributes)
    assert client is server


@pytest.mark.parametrize(
    "attributes", [["color "], ["\u2003color"], ["color", "Color"], ["STRASSE", "straße"]]
)
def test_names_that_no_answer_can_be_told_apart_by_are_refused(attributes: list[str]) -> None:
    with pytest.raises(contract.InvalidRequest, match=r"white space|case"):
        contract.check_attributes(attributes)
    with pytest.raises(quorum_client.InvalidRequest, match=r"white space|case"):
        _wire._encode_attributes(attributes)

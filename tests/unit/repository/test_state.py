# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorum.repository.state import RepositoryError, RetrieverState, State, dump_state, read_state
from quorum_contract import CANARY, CHANNELS, RECOMMEND, RECOMMEND_CANARY, RECOMMEND_CHANNELS, STABLE

GOOD: dict[str, Any] = {
    "schema_version": 1,
    "versions": [1, 3],
    "pins": {"quorum": 1, "quorum_canary": 3},
    "canary_share": 0.05,
}


RETRIEVER = {
    "versions": [2, 5],
    "pins": {"quorum_recommend": 2, "quorum_recommend_canary": 5},
    "canary_share": 0.1,
}
RETRIEVED = RetrieverState((2, 5), {RECOMMEND: 2, RECOMMEND_CANARY: 5}, 0.1)


@st.composite
def states(draw: st.DrawFn) -> State:
    def served(channels: tuple[str, ...]) -> tuple[tuple[int, ...], dict[str, int], float]:
        versions = tuple(sorted(draw(st.sets(st.integers(1, 10**6), min_size=1, max_size=9))))
        pins = {channel: draw(st.sampled_from(versions)) for channel in reversed(channels)}
        return versions, pins, draw(st.floats(0, 1) | st.sampled_from([0, 1]))

    has_retriever = draw(st.booleans())
    return State(*served(CHANNELS), RetrieverState(*served(RECOMMEND_CHANNELS)) if has_retriever else None)


@given(state=states())
def test_a_state_reads_back_as_written(state: State, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(dump_state(state), encoding="utf-8")
    assert read_state(path) == state
    assert dump_state(read_state(path)) == path.read_text("utf-8")


def test_the_file_is_one_fact_a_line() -> None:
    text = dump_state(State((1, 3), {CANARY: 3, STABLE: 1}, 0))
    assert (
        text
        == """{
  "schema_version": 1,
  "versions": [
    1,
    3
  ],
  "pins": {
    "quorum": 1,
    "quorum_canary": 3
  },
  "canary_share": 0.0
}
"""
    )


def test_a_retriever_is_a_fact_beside_the_weights(tmp_path: Path) -> None:
    old = State((1, 3), {STABLE: 1, CANARY: 3}, 0.05)
    state = State((1, 3), {STABLE: 1, CANARY: 3}, 0.05, RETRIEVED)
    assert json.loads(dump_state(state)) == GOOD | {"retriever": RETRIEVER}
    assert "retriever" not in dump_state(old)
    for changed in (state.pinned(STABLE, 3), state.listing([3], dict.fromkeys(CHANNELS, 3))):
        assert changed.retriever == RETRIEVED
    moved = RETRIEVED.pinned(RECOMMEND, 5, 1)
    assert moved == RetrieverState((2, 5), {RECOMMEND: 5, RECOMMEND_CANARY: 5}, 1.0)
    with pytest.raises(ValueError, match="quorum_recommend is pinned to version 2, loaded are"):
        RETRIEVED.listing([5])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"retriever": RETRIEVER | {"versions": []}}, "versions [] are not ascending"),
        (
            {"retriever": RETRIEVER | {"pins": GOOD["pins"]}},
            "pins are of ['quorum', 'quorum_canary'], expected ['quorum_recommend', ",
        ),
        ({"retriever": RETRIEVER | {"versions": [2]}}, "is pinned to version 5, loaded are [2]"),
        ({"retriever": RETRIEVER | {"canary_share": 2}}, "canary_share 2.0 is not in [0, 1]"),
        ({"retriever": RETRIEVER | {"retriever": None}}, "unknown field `retriever`"),
        ({"retriever": 5}, "$.retriever"),
        ({"versions": []}, "versions [] are not ascending"),
        ({"versions": [3, 1]}, "versions [3, 1] are not ascending"),
        ({"versions": [1, 1, 3]}, "are not ascending"),
        ({"versions": [0, 1, 3]}, "are not ascending"),
        ({"versions": [1, 3, 1 << 63]}, "are not ascending numbers from 1 to 2^63"),
        ({"versions": [1, "3"]}, "$.versions[1]"),
        ({"versions": [1]}, "quorum_canary is pinned to version 3, loaded are [1]"),
        ({"pins": {"quorum": 1}}, "pins are of ['quorum'], expected ['quorum', 'quorum_canary']"),
        ({"pins": {"quorum": 1, "quorum_canary": 3, "other": 1}}, "pins are of"),
        ({"pins": {"quorum": 1, "quorum_canary": True}}, "got `bool`"),
        ({"canary_share": 1.5}, "canary_share 1.5 is not in [0, 1]"),
        ({"canary_share": -0.01}, "canary_share -0.01 is not in [0, 1]"),
        ({"canary_share": 10**400}, "$.canary_share"),
        ({"canary_share": "5%"}, "$.canary_share"),
        ({"more": 1}, "unknown field `more`"),
        ({"schema_version": 2}, "schema version 2, this release reads 1; use the release that wrote it"),
    ],
)
def test_what_no_server_could_serve_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(json.dumps(GOOD), encoding="utf-8")
    assert read_state(path) == State((1, 3), {STABLE: 1, CANARY: 3}, 0.05)
    path.write_text(json.dumps(GOOD | change), encoding="utf-8")
    with pytest.raises(RepositoryError) as refused:
        read_state(path)
    assert words in str(refused.value)
    assert str(path) in str(refused.value)
    assert ("remove it and run `quorum render`" in str(refused.value)) == ("schema_version" not in change)


DEEP = "[" * 100_000
DAMAGED = {
    "empty": "",
    "cut off": "{",
    "a list": "[]",
    "null": "null",
    "no text": "\xff",
    "no UTF-8 in a text": json.dumps(GOOD).replace("quorum_canary", "quorum_canar\xff"),
    "no schema": '{"versions": [1]}',
    "a deep value": json.dumps(GOOD).replace("0.05", DEEP),
    "a deep value of an unknown key": '{"more": ' + DEEP,
    "a number of 5 000 digits": json.dumps(GOOD).replace("3", "3" * 5000),
    "a schema of 5 000 digits": json.dumps({"schema_version": 0}).replace("0", "1" * 5000),
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named_with_a_way_out(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(
        RepositoryError, match=r"state\.json: .*restore it from version control, or remove it"
    ):
        read_state(path)

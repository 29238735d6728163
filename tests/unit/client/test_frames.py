# SPDX-License-Identifier: Apache-2.0
"""Answers as columns of a pandas DataFrame or a pyarrow Table."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest

import quorum_client as qc
from quorum_client.frames import extract_frame

COLUMNS = {
    "title": ["shoe", None, "hat", "  "],
    "description": ["red", "boot", None, None],
    "number": [1, 2, 3, 4],
    "shelf": ["shoes", "shoes", None, "hats"],
}


@pytest.fixture(params=["pandas", "pyarrow"])
def library(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param)


@pytest.fixture
def frame(library: Any) -> Any:
    if library.__name__ == "pandas":
        return library.DataFrame(COLUMNS, index=[10, 11, 12, 13])
    return library.table(COLUMNS)


@pytest.fixture
def client(triton: Any) -> Iterator[qc.Client]:
    with qc.Client(triton.url) as client:
        yield client


def column(frame: Any, name: str) -> list[Any]:
    """Values, with None for what is missing."""
    values = frame[name].to_pylist() if hasattr(frame, "to_pandas") else frame[name].tolist()
    return [
        None if value is None or type(value).__name__ == "NAType" or value != value else value
        for value in values
    ]


def asked(triton: Any) -> list[tuple[str, str]]:
    requests = by_text(triton)
    return [tuple(t.contents.bytes_contents[0].decode() for t in request.inputs[:2]) for request in requests]


def by_text(triton: Any) -> list[Any]:
    return sorted(triton.requests, key=lambda request: request.inputs[0].contents.bytes_contents[0])


def test_each_row_gets_values_confidences_and_errors(triton: Any, client: qc.Client, frame: Any) -> None:
    found = extract_frame(client, frame, ["title", "description"], ["brand", "size"], category="shelf")
    assert type(found) is type(frame)
    assert column(found, "brand") == ["v-brand", "v-brand", "v-brand", None]
    assert column(found, "size_confidence") == [0.75, 0.75, 0.75, None]
    errors = column(found, "error")
    assert errors[:3] == [None] * 3
    assert "TEXT: empty" in errors[3]
    assert asked(triton) == [("boot", "shoes"), ("hat", ""), ("shoe\nred", "shoes")]
    assert column(found, "number") == COLUMNS["number"]
    if hasattr(frame, "index"):
        assert list(found.index) == [10, 11, 12, 13]
        assert str(found["brand_confidence"].dtype) == "float64"


def test_text_of_fields_and_the_id_are_passed(triton: Any, frame: Any) -> None:
    with qc.Client(triton.url, canary_share=0.5) as client:
        extract_frame(client, frame, {"query": "title", "title": "description"}, ["a"], id="number")
    routed = {
        text: request.model_name for (text, _), request in zip(asked(triton), by_text(triton), strict=True)
    }
    channels = ["quorum_canary" if qc.takes_canary(str(number), 0.5) else "quorum" for number in (3, 1, 2)]
    assert routed == dict(
        zip(["query: hat", "query: shoe\ntitle: red", "title: boot"], channels, strict=True)
    )
    assert len(set(channels)) == 2


def test_undecided_values_are_missing_and_have_confidence_0(
    triton: Any, client: qc.Client, library: Any
) -> None:
    def bend(response: Any) -> None:
        response.tensors["VALUES"] = ("BYTES", [1], b"\0\0\0\0")
        response.tensors["CONFIDENCE"] = ("FP32", [1], b"\0\0\0\0")

    triton.bend = bend
    data = {"title": ["shoe"]}
    frame = library.DataFrame(data) if library.__name__ == "pandas" else library.table(data)
    found = extract_frame(client, frame, "title", ["a"])
    assert column(found, "a") == [None]
    assert column(found, "a_confidence") == [0.0]


def test_a_frame_without_rows(client: qc.Client, frame: Any) -> None:
    found = extract_frame(client, frame[:0], "title", ["a"])
    assert column(found, "a") == column(found, "error") == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("name", ["a"]), "no column 'name'; it has 'title', "),
        (("title", ["number"]), "has a column 'number' already"),
        (("title", ["a", "a_confidence"]), "two columns would be 'a_confidence'"),
        (("title", ["error"]), "two columns would be 'error'"),
        (([], ["a"]), "text: no column; name"),
        (({}, ["a"]), "text: no column; name"),
        (("title", "brand"), "ATTRIBUTES: a str; give a list"),
        (("title", []), "ATTRIBUTES"),
    ],
)
def test_columns_that_cannot_be(
    triton: Any, client: qc.Client, frame: Any, arguments: Any, words: str
) -> None:
    with pytest.raises(qc.InvalidRequest, match=words):
        extract_frame(client, frame, *arguments)
    assert triton.requests == []


def test_cells_that_hold_several_values_are_refused_before_any_is_asked(
    triton: Any, client: qc.Client, library: Any
) -> None:
    data = {"title": ["shoe", "hat"], "tags": [["a", "b"], ["c"]]}
    frame = library.DataFrame(data) if library.__name__ == "pandas" else library.table(data)
    with pytest.raises(qc.InvalidRequest, match=r"frame: cells of column 'tags' hold .*list.*; give text"):
        extract_frame(client, frame, ["title", "tags"], ["a"])
    assert triton.requests == []
    assert column(extract_frame(client, frame, "title", ["a"]), "a") == ["v-a"] * 2, "it is not asked about"


def test_two_columns_of_one_name_are_refused_before_any_is_asked(
    triton: Any, client: qc.Client, frame: Any
) -> None:
    if hasattr(frame, "index"):
        frame.columns = ["title", "title", "number", "shelf"]
    else:
        frame = frame.rename_columns(["title", "title", "number", "shelf"])
    with pytest.raises(qc.InvalidRequest, match="frame: two columns are called 'title'; rename one"):
        extract_frame(client, frame, "title", ["a"])
    assert triton.requests == []


def test_an_attribute_may_be_called_as_a_confidence(client: qc.Client, frame: Any) -> None:
    found = extract_frame(client, frame, "description", ["low_confidence"])
    assert column(found, "low_confidence")[:2] == ["v-low_confidence"] * 2
    assert column(found, "low_confidence_confidence")[:2] == [0.75] * 2


@pytest.mark.parametrize("frame", [[], {"title": ["a"]}, dt.date(2026, 1, 1)])
def test_what_is_no_frame_is_refused(client: qc.Client, frame: Any) -> None:
    with pytest.raises(qc.InvalidRequest, match=r"give a pandas.DataFrame or a pyarrow.Table"):
        extract_frame(client, frame, "title", ["a"])

# SPDX-License-Identifier: Apache-2.0
"""Results as plain JSON values and back, without loss."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from quorum_client import (
    Answer,
    DecisionStatus,
    Extraction,
    Keyphrase,
    Recommendation,
    Spent,
    Status,
    Vote,
)

VOTES = (
    Vote("llama", "größe 42", Status.ANSWERED, -0.1234567890123),
    Vote("qwen", None, Status.REFUSED),
    Vote("gpt", "n/a", Status.ANSWERED),
)
WHOLE = Extraction(
    "r-1",
    (
        Answer("size", "größe 42", 0.1 + 0.2, VOTES),
        Answer("brand", None, 0.0, VOTES[1:2], DecisionStatus.NO_QUORUM),
    ),
    7,
    1 / 3,
    "quorum_lazy",
    "quorum_lazy_canary",
    0.000123456789,
    {"llama": Spent(1, 120, 4, 64, math.pi, 1e-7), "qwen": Spent(1, None, None, None, None, None)},
)


def fields(result: Any) -> dict[str, Any]:
    """All attributes, also those that are left out of a comparison."""
    return {name: getattr(result, name) for name in type(result).__dataclass_fields__}


def test_an_extraction_survives_json_whole() -> None:
    again = Extraction.from_dict(json.loads(json.dumps(WHOLE.to_dict())))
    assert fields(again) == fields(WHOLE)
    assert again["brand"].votes[0].status is Status.REFUSED
    assert again.spent == WHOLE.spent


def test_an_extraction_of_an_earlier_server_survives_too() -> None:
    bare = Extraction("r", (), 1, 0.5)
    assert fields(Extraction.from_dict(json.loads(json.dumps(bare.to_dict())))) == fields(bare)


def test_a_recommendation_survives_json_whole() -> None:
    result = Recommendation("r", (Keyphrase("red shoe", 0.7000001), Keyphrase("shoe", -1.0)), 3, 0.25)
    assert fields(Recommendation.from_dict(json.loads(json.dumps(result.to_dict())))) == fields(result)


def test_what_another_release_wrote_is_read() -> None:
    data = WHOLE.to_dict() | {"new": 1}
    data["answers"][0]["votes"][0]["status"] = "LATER"
    data["answers"][0]["status"] = data["answers"][1]["status"] = "LATER"
    data["usage"]["llama"]["watts"] = 3
    del data["cost"]
    found = Extraction.from_dict(data)
    assert found["size"].votes[0].status is Status.ERROR
    assert [answer.status for answer in found.answers] == [DecisionStatus.DECIDED, DecisionStatus.NO_ANSWER]
    assert found.usage == WHOLE.usage
    assert found.cost is None


@pytest.mark.parametrize(
    ("bend", "words"),
    [
        (lambda data: data.pop("request_id"), "no extraction: it lacks 'request_id'"),
        (lambda data: data["answers"][0].pop("votes"), "no answer: it lacks 'votes'"),
        (lambda data: data["answers"][0]["votes"][0].pop("member"), "no vote: it lacks 'member'"),
        (lambda data: data.update(latency_s=None), "no extraction: "),
        (lambda data: data.update(answers=[3]), "no answer: "),
    ],
)
def test_what_is_no_extraction_is_refused(bend: Any, words: str) -> None:
    data = json.loads(json.dumps(WHOLE.to_dict()))
    bend(data)
    with pytest.raises(ValueError, match=words):
        Extraction.from_dict(data)

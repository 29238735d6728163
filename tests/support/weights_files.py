# SPDX-License-Identifier: Apache-2.0
"""Learned weights as a file, changed as a test needs it, and the check that it is refused."""

import json

import pytest

from quorum.decision.cell import Parameters
from quorum.decision.weights import (
    Weights,
    WeightsError,
    dumps,
    loads,
)

MEMBERS = ("llama", "qwen", "gpt")
CATALOGUE = {"": "sha256:open", "colour": "sha256:c", "gender": "sha256:g"}
LEARNED = Weights(
    method="loglinear",
    members=MEMBERS,
    default=Parameters((1.0, 0.5, 2.25), -0.5, 0.75),
    attributes={"gender": Parameters((0.0, 1.0, 2.0), 0.25, 0.5)},
    groups={"shoes|gender": Parameters((3.0, 0.0, 0.0), 0.0, 0.0)},
    catalogue=CATALOGUE,
    confidence="calibrated",
    settings={"ridge": 5.0},
    provenance={"created": "2024-01-01T00:00:00Z", "rows": 10, "gold_labels": 5},
)


def edited(**changes):
    content = json.loads(dumps(LEARNED))
    content.update(changes)
    return json.dumps(content)


def default(weights, **biases):
    return edited(default={"weights": weights, **(biases or {"na_bias": 0, "none_bias": 0})})


def refused(text, *words):
    with pytest.raises(WeightsError) as caught:
        loads(text, "7/weights.json")
    message = str(caught.value)
    assert message.startswith("7/weights.json: ")
    for word in words:
        assert word in message

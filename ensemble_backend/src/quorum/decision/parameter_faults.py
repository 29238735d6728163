# SPDX-License-Identifier: Apache-2.0
"""Find what makes the parameters of a cell unusable, before they decide any."""

from __future__ import annotations

import math
from collections.abc import Sequence

from quorum.decision.cell import Parameters
from quorum.decision.scores import LEVELS


def fault_in(parameters: Parameters, members: Sequence[str], confidence: str) -> str:
    """What is wrong with parameters, to be read after their name; "" if nothing is.

    Args:
        parameters: Any.
        members: Names, in the order of the weights.
        confidence: "agreement" or "calibrated", of all parameters of a file.
    """
    if len(parameters.weights) != len(members):
        return f".weights has {len(parameters.weights)} numbers for {len(members)} members"
    for name, weight in zip(members, parameters.weights, strict=True):
        if not math.isfinite(weight) or weight < 0.0:
            return (
                f".weights: the weight of {name!r} is {weight}; weights are finite and not negative "
                "(0: a vote without a score has no say)"
            )
    if fault := _in_scores(parameters, len(members)):
        return fault
    none_bias = 0.0 if parameters.none_bias is None else parameters.none_bias
    biases = (parameters.na_bias, none_bias, parameters.part_bias)
    if not all(map(math.isfinite, biases)):
        return ": the biases must be finite"
    # Twice the largest total that a cell can reach: sums in another order are rounded up.
    if not math.isfinite(2.0 * (sum(parameters.highest()) + sum(map(abs, biases)))):
        return ": the numbers are so large that their sum is no number"
    if parameters.calibrated != (confidence == "calibrated"):
        return (
            f".none_bias is {parameters.none_bias} but confidence is {confidence!r}: "
            "a calibrated confidence needs a number, agreement needs null"
        )
    return _in_chance(parameters)


def _in_scores(parameters: Parameters, members: int) -> str:
    if not parameters.scores:
        return ""
    sizes = [len(offsets) for offsets in parameters.scores]
    if sizes != [LEVELS] * members:
        return f".scores must have {LEVELS} numbers for each of {members} members, not {sizes}"
    if not all(math.isfinite(offset) for offsets in parameters.scores for offset in offsets):
        return ".scores must be finite"
    return ""


def _in_chance(parameters: Parameters) -> str:
    line = parameters.chance
    if not line:
        return ""
    if len(line) != 2 or not all(map(math.isfinite, line)) or line[1] < 0.0:
        return f".chance is {list(line)}; it is an intercept and a slope, both finite, the slope not negative"
    return (
        "" if parameters.calibrated else ".chance: only a calibrated confidence has a chance of being right"
    )

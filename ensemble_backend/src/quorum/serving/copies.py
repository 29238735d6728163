# SPDX-License-Identifier: Apache-2.0
"""Name the copies of steps that serve while the steps themselves change (:mod:`quorum.rollout.apply`)."""

from __future__ import annotations

COPY = "__next"
"""End of the name of a copy's model."""


def copy_of(model: str) -> str:
    """The name of a model's copy."""
    return f"{model}{COPY}"


def is_copy(model: str) -> bool:
    """Whether a model is a copy."""
    return model.endswith(COPY)


def original_of(model: str) -> str:
    """The model that a copy stands for; the model itself where it is none."""
    return model.removesuffix(COPY)

# SPDX-License-Identifier: Apache-2.0
"""What the parts of the schema of ``deploy.yaml`` have in common."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


def error_at(key: str | tuple[str | int, ...], message: str) -> PydanticCustomError:
    """An error at ``key``, or at a path of keys, of the field that is being checked."""
    keys = key if isinstance(key, tuple) else (key,)
    return PydanticCustomError("at_key", "{message}", {"message": message, "keys": keys})


def one_of(what: str, known: Sequence[str]) -> AfterValidator:
    """A check that a name is one of ``known``; ``what`` says what it names."""

    def check(name: str) -> str:
        if name not in known:
            raise ValueError(f"unknown {what} {name!r}; use one of {', '.join(known)}")
        return name

    return AfterValidator(check)


class Strict(BaseModel):
    """A part of ``deploy.yaml``: unknown keys are refused, and it never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

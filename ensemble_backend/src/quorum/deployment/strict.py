# SPDX-License-Identifier: Apache-2.0
"""What the parts of the schema of ``deploy.yaml`` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, core_schema


def error_at(key: str | tuple[str | int, ...], message: str) -> PydanticCustomError:
    """An error at ``key``, or at a path of keys, of the field that is being checked."""
    keys = key if isinstance(key, tuple) else (key,)
    return PydanticCustomError("at_key", "{message}", {"message": message, "keys": keys})


@dataclass(frozen=True, slots=True)
class OneOf:
    """A check that a name is one of ``known``; ``what`` says what it names."""

    what: str
    known: tuple[str, ...]

    def check(self, name: str) -> str:
        """The name, if it is known."""
        if name not in self.known:
            raise ValueError(f"unknown {self.what} {name!r}; use one of {', '.join(self.known)}")
        return name

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "enum": list(self.known)}


def one_of(what: str, known: Sequence[str]) -> OneOf:
    """A check that a name is one of ``known``; ``what`` says what it names."""
    return OneOf(what, tuple(known))


class Strict(BaseModel):
    """A part of ``deploy.yaml``: unknown keys are refused, and it never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

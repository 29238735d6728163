# SPDX-License-Identifier: Apache-2.0
"""Learn which parts of OpenAI's API an endpoint knows, by what it refuses and by how it answers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from quorum.runtimes.remote.conforms import begins, conforms

_PROOFS = 3
_LENGTHS = frozenset({"minLength", "maxLength", "maxItems", "minItems", "prefixItems"})
_OPTIONAL = ("logprobs", "stream_options", "seed", "temperature")
_OTHER_LIMIT = re.compile(r"(?s)(?=.*\bmax_completion_tokens\b).*(unsupported|not supported|instead)")
_SCHEMA = "response_format|json_schema|json_object|schema|structured|guided"


class Guidance(IntEnum):
    """What is asked of the form of answers, from the strictest; an endpoint only ever moves on."""

    SCHEMA = 0
    SIMPLE_SCHEMA = 1
    """Without the lengths that some services refuse."""
    OBJECT = 2
    NONE = 3


@dataclass(slots=True)
class Dialect:
    """What one endpoint is sent.

    Attributes:
        guidance: Form of answers.
        scores: Whether log-probabilities are wanted.
        why: Why guidance is not :attr:`Guidance.SCHEMA`: "refused", "ignored", or "" where it is or was not
            wanted.
        dropped: Optional fields that it refused.
        version: Counts changes: a request that was refused before a change is worth another try.
        offers_scores: Whether answers came with log-probabilities; None: not known yet.
    """

    guidance: Guidance = Guidance.SCHEMA
    scores: bool = True
    why: str = ""
    dropped: set[str] = field(default_factory=set)
    version: int = 0
    offers_scores: bool | None = None
    _violations: int = 0
    _limit_name: str = "max_tokens"

    def fields(self, schema: Mapping[str, Any], max_tokens: int, seed: int) -> dict[str, Any]:
        """The fields of a request that not every endpoint knows."""
        wanted: dict[str, Any] = {
            "temperature": 0,
            "seed": seed,
            self._limit_name: max_tokens,
            "stream_options": {"include_usage": True},
        }
        if self.scores:
            wanted["logprobs"] = True
        if self.guidance in (Guidance.SCHEMA, Guidance.SIMPLE_SCHEMA):
            form = dict(schema) if self.guidance is Guidance.SCHEMA else _simple(schema)
            wanted["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": form},
            }
        elif self.guidance is Guidance.OBJECT:
            wanted["response_format"] = {"type": "json_object"}
        return {name: value for name, value in wanted.items() if name not in self.dropped}

    def refuses(self, error: str, prompt: str = "") -> str:
        """Take back what an error of a bad request names; returns what, or "" where it names nothing.

        Args:
            error: What the endpoint wrote: its ``param`` counts where it has one, else its words.
            prompt: What it was asked: words that stand there may be quoted, and name nothing.
        """
        changed = self._take_back(_Refusal(error, prompt))
        if changed:
            self.version += 1
        return changed

    def answered(self, text: str, schema: Mapping[str, Any], is_cut: bool = False) -> bool:
        """Look at an answer, or at one that was cut off; returns whether it proves that schemas are ignored.

        An endpoint that keeps schemas gives no answer that does not conform, so a few in a row are proof.
        """
        if self.guidance > Guidance.SIMPLE_SCHEMA:
            return False
        if begins(text) if is_cut else conforms(text, dict(schema)):
            self._violations = self._violations if is_cut else 0
            return False
        self._violations += 1
        if self._violations < _PROOFS:
            return False
        self.guidance, self.why = Guidance.NONE, "ignored"
        self.version += 1
        return True

    @property
    def form(self) -> str:
        """What answers keep to, for people."""
        name = ("JSON schema", "JSON schema without lengths", "JSON object", "prompt alone")[self.guidance]
        return f"{name} (schemas are {self.why})" if self.why else name

    def _take_back(self, refusal: _Refusal) -> str:
        if self._limit_name == "max_tokens" and refusal.wants_other_limit:
            self._limit_name = "max_completion_tokens"
            return "max_tokens"
        for name in _OPTIONAL:
            if name not in self.dropped and refusal.names(rf"\b{name}\b"):
                self.dropped.add(name)
                if name == "logprobs":
                    self.scores, self.offers_scores = False, False
                return name
        if self.guidance < Guidance.NONE and refusal.names(_SCHEMA):
            self.guidance, self.why = Guidance(self.guidance + 1), "refused"
            return "response_format"
        return ""


class _Refusal:
    """The error of a bad request; words of the prompt, which it may quote, say nothing."""

    def __init__(self, error: str, prompt: str) -> None:
        self._words, self._prompt, self._param = error.lower(), prompt.lower(), _param(error)

    def names(self, pattern: str) -> bool:
        if self._param:
            return re.search(pattern, self._param) is not None
        return any(match.group() not in self._prompt for match in re.finditer(pattern, self._words))

    @property
    def wants_other_limit(self) -> bool:
        is_named = self.names("max_(completion_)?tokens")
        return is_named and _OTHER_LIMIT.search(self._words) is not None


def _param(error: str) -> str:
    """The parameter that an error of OpenAI's form names; "" where there is none."""
    try:
        body = json.loads(error)
    except (ValueError, RecursionError):
        return ""
    inner = body.get("error", body) if isinstance(body, dict) else None
    param = inner.get("param") if isinstance(inner, dict) else None
    return param.lower() if isinstance(param, str) else ""


def _simple(schema: Any) -> Any:
    """A schema without lengths."""
    if isinstance(schema, dict):
        return {name: _simple(part) for name, part in schema.items() if name not in _LENGTHS}
    return [_simple(part) for part in schema] if isinstance(schema, list) else schema

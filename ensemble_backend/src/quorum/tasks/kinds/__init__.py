# SPDX-License-Identifier: Apache-2.0
"""Kinds of answer: how each is asked for, written down in JSON, and read."""

from quorum.tasks.kinds.base import MAX_TEXT_CHARS, AnswerKind, answer_text
from quorum.tasks.kinds.label import Label
from quorum.tasks.kinds.many import Many
from quorum.tasks.kinds.registry import KINDS, answer_schema, kind_of, read
from quorum.tasks.kinds.spans import Spans
from quorum.tasks.kinds.text import MOST_TEXT_CHARS, Text
from quorum.tasks.kinds.value import MAX_OPEN_VALUE_CHARS, Value

__all__ = [
    "KINDS",
    "MAX_OPEN_VALUE_CHARS",
    "MAX_TEXT_CHARS",
    "MOST_TEXT_CHARS",
    "AnswerKind",
    "Label",
    "Many",
    "Spans",
    "Text",
    "Value",
    "answer_schema",
    "answer_text",
    "kind_of",
    "read",
]

# SPDX-License-Identifier: Apache-2.0
"""Kinds of answer: how each is asked for, written down in JSON, and read."""

from quorum.tasks.kinds.base import AnswerKind
from quorum.tasks.kinds.label import Label
from quorum.tasks.kinds.many import Many
from quorum.tasks.kinds.registry import answer_schema, kind_of, read
from quorum.tasks.kinds.spans import Spans
from quorum.tasks.kinds.text import Text
from quorum.tasks.kinds.value import Value

__all__ = ["AnswerKind", "Label", "Many", "Spans", "Text", "Value", "answer_schema", "kind_of", "read"]

# SPDX-License-Identifier: Apache-2.0
"""Kinds of answer: how people write the gold of each, and how it is spelled as votes are."""

from quorum.review.kinds.base import SEPARATOR, SheetAnswer
from quorum.review.kinds.registry import KINDS, allowed_answers, spelled_gold, split_gold

__all__ = ["KINDS", "SEPARATOR", "SheetAnswer", "allowed_answers", "spelled_gold", "split_gold"]

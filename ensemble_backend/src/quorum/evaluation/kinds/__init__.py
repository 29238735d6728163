# SPDX-License-Identifier: Apache-2.0
"""Kinds of answer: how each is scored, measured and named in reports."""

from quorum.evaluation.kinds.base import KindScores, Measure
from quorum.evaluation.kinds.registry import KINDS

__all__ = ["KINDS", "KindScores", "Measure"]

# SPDX-License-Identifier: Apache-2.0
"""How good members and weights are: scores, cross-validation, drift, and the verdict on a canary."""

from quorum.evaluation.score import NothingToScoreError, Score, apply, score
from quorum.evaluation.stats import Estimate

__all__ = ["Estimate", "NothingToScoreError", "Score", "apply", "score"]

# SPDX-License-Identifier: Apache-2.0
"""How good members and weights are: scores, cross-validation, drift, and the verdict on a canary."""

from quorum.evaluation.score import Accuracy, NothingToScoreError, Score, apply, score

__all__ = ["Accuracy", "NothingToScoreError", "Score", "apply", "score"]

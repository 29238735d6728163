# SPDX-License-Identifier: Apache-2.0
"""Learn weights from votes: every method, from agreement or from gold labels."""

from quorum.learning.learn import LearnError, learn, learn_statistic

__all__ = ["LearnError", "learn", "learn_statistic"]

# SPDX-License-Identifier: Apache-2.0
"""Votes in, weights out: every method that learns, from agreement or from gold labels."""

from quorum.learning.learn import LearnError, learn, learn_statistic

__all__ = ["LearnError", "learn", "learn_statistic"]

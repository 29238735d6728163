# SPDX-License-Identifier: Apache-2.0
"""Votes tables in, weights and figures out: everything that learns and evaluates, without any interface."""

from quorum.fit.learn import LearnError, learn, learn_statistic
from quorum.fit.score import Accuracy, NothingToScoreError, Score, apply, score
from quorum.fit.statistic import Statistic, StatisticError
from quorum.fit.votes import Cell, VotesError, VotesTable, build_table, parse_votes, read_votes, write_votes

__all__ = [
    "Accuracy",
    "Cell",
    "LearnError",
    "NothingToScoreError",
    "Score",
    "Statistic",
    "StatisticError",
    "VotesError",
    "VotesTable",
    "apply",
    "build_table",
    "learn",
    "learn_statistic",
    "parse_votes",
    "read_votes",
    "score",
    "write_votes",
]

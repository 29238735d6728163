# SPDX-License-Identifier: Apache-2.0
"""The votes table: what every member answered on every cell, with gold where it is known."""

from quorum.votes.statistic import Statistic, StatisticError
from quorum.votes.table import (
    Cell,
    VotesError,
    VotesTable,
    build_table,
    parse_votes,
    read_votes,
    write_votes,
)

__all__ = [
    "Cell",
    "Statistic",
    "StatisticError",
    "VotesError",
    "VotesTable",
    "build_table",
    "parse_votes",
    "read_votes",
    "write_votes",
]

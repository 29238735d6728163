# SPDX-License-Identifier: Apache-2.0
"""Read and write votes tables: every member's answer on every cell, with gold where it is known.

This package alone opens the files; the columns are in :mod:`quorum.votes.schema`.
"""

from quorum.votes.jsonl import Row
from quorum.votes.read import is_large, parse_votes, read_members, read_rows, read_votes, unit_of
from quorum.votes.schema import SCHEMA_VERSION, Cell, Origin, VotesError, check_wanted, is_columnar
from quorum.votes.statistic import Statistic, StatisticError
from quorum.votes.stream import read_statistic, read_statistic_ray
from quorum.votes.table import VotesTable, build_table
from quorum.votes.write import VotesWriter, check_target, write_votes

__all__ = [
    "SCHEMA_VERSION",
    "Cell",
    "Origin",
    "Row",
    "Statistic",
    "StatisticError",
    "VotesError",
    "VotesTable",
    "VotesWriter",
    "build_table",
    "check_target",
    "check_wanted",
    "is_columnar",
    "is_large",
    "parse_votes",
    "read_members",
    "read_rows",
    "read_statistic",
    "read_statistic_ray",
    "read_votes",
    "unit_of",
    "write_votes",
]

# SPDX-License-Identifier: Apache-2.0
"""Rows and inputs of a study of tasks that is made up."""

from __future__ import annotations

from quorum.tune.data import TrainingRow
from quorum_bench.studies.tasks import (
    inputs,
    made,
)


def row(product: str, answers: tuple[str, ...], text: str = "red shoe", attribute: str = "a") -> TrainingRow:
    return TrainingRow(1, product, text, "", attribute, answers)


def world(tmp_path, effort=inputs.SHORT, folder=None):
    return inputs.Inputs(tmp_path, tmp_path / "bases", made.Cache(tmp_path / "cache"), effort, folder)

# SPDX-License-Identifier: Apache-2.0
"""Define, read and write ``results.json``; the JSON schema is made from these classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quorum_contract.errors import QuorumError

RESULTS = "results.json"
SAMPLES = "samples.parquet"
SCHEMA = "results.schema.json"

Label = str | int | float
Finite = Annotated[float, Field(allow_inf_nan=False)]


class ResultsError(QuorumError, ValueError):
    """A results file cannot be read; the message says where and why."""

    code = "RESULTS_INVALID"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Value(_Strict):
    """A figure: the median over runs, its 95 % bootstrap interval, and the value of each run."""

    value: Finite
    low: Finite
    high: Finite
    runs: list[Finite] = []


class Step(_Strict):
    """Mean times per request of one step of the server, ms: medians over runs."""

    step: str
    count: int
    queue_ms: Finite
    compute_ms: Finite


class PointResult(_Strict):
    """One point of a scenario.

    Attributes:
        id: Id of its rows in ``samples.parquet``.
        labels: Distinguish it from others.
        values: By metric key.
        missing: Metric key -> why there is no value.
        steps: Server-side breakdown.
        notes: Reasons to doubt the values.
    """

    id: str
    labels: dict[str, Label]
    values: dict[str, Value]
    missing: dict[str, str] = {}
    steps: list[Step] = []
    notes: list[str] = []


class Finding(_Strict):
    """A sentence with a figure.

    Attributes:
        text: The sentence.
        value: The figure, if there is one.
        unit: Unit of the figure.
        aim: Target, in words; empty without one.
        met: Whether it was reached; null without a target.
        no_effect: Value at which there is no difference: 0, or 1 of a ratio; null where that means nothing.
    """

    text: str
    value: Value | None = None
    unit: str = ""
    aim: str = ""
    met: bool | None = None
    no_effect: Finite | None = None

    @property
    def shows_nothing(self) -> bool:
        """Whether the figure may be no difference at all: its interval holds that."""
        v, none = self.value, self.no_effect
        return v is not None and none is not None and v.low <= none <= v.high

    @property
    def outcome(self) -> str:
        """Whether the target was reached, in a word; "" without a target."""
        if self.met is None:
            return ""
        return "undecided" if self.shows_nothing else "met" if self.met else "missed"


class Plot(_Strict):
    """A plot of a scenario's points in the report.

    Attributes:
        title: Above the plot.
        x: Label on the horizontal axis; a bar for each of its values where they are words.
        y: Metric keys, drawn as one line each without a series.
        series: Label that separates lines.
        only: Labels of the points to draw.
        log_x: Logarithmic horizontal axis.
        log_y: Logarithmic vertical axis.
        ideal: Points of a dashed line for the ideal.
        ideal_name: Its name.
    """

    title: str
    x: str
    y: list[str]
    series: str | None = None
    only: dict[str, str] = {}
    log_x: bool = False
    log_y: bool = False
    ideal: list[tuple[Finite, Finite]] = []
    ideal_name: str = "ideal"


class Table(_Strict):
    """A table of figures other than points."""

    title: str
    columns: list[str]
    rows: list[list[str]]


class ScenarioResult(_Strict):
    """One question and its answer."""

    name: str
    title: str
    question: str
    points: list[PointResult]
    findings: list[Finding] = []
    plots: list[Plot] = []
    tables: list[Table] = []
    skipped: str = ""
    failed: str = ""
    seconds: Finite = 0.0


class MetricInfo(_Strict):
    """Title, unit and formula of a metric key."""

    title: str
    unit: str
    better: Literal["lower", "higher", ""]
    formula: str


class Results(_Strict):
    """A whole run of the benchmark."""

    schema_version: Literal[1] = 1
    made: str
    form: str
    effort: dict[str, Finite]
    environment: dict[str, Any]
    metrics: dict[str, MetricInfo]
    scenarios: list[ScenarioResult]

    def points(self) -> dict[str, PointResult]:
        """All points by id."""
        return {point.id: point for scenario in self.scenarios for point in scenario.points}


def write_results(results: Results, folder: Path) -> Path:
    """Write ``results.json``."""
    path = folder / RESULTS
    path.write_text(results.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return path


def read_results(path: Path) -> Results:
    """Read a ``results.json``, or the one in a folder.

    Raises:
        ResultsError: It is missing or invalid.
    """
    file = path / RESULTS if path.is_dir() else path
    try:
        return Results.model_validate_json(file.read_text("utf-8"))
    except OSError as error:
        raise ResultsError(
            f"{file}: {error.strerror}; name a folder that quorum-bench run made, or its {RESULTS}"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ResultsError(
            f"{file}: {where}: {first['msg']}; was it made by this release of quorum-bench?"
        ) from error


def schema_text() -> str:
    """The JSON schema of ``results.json``."""
    return json.dumps(Results.model_json_schema(), indent=1) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / SCHEMA).write_text(schema_text(), encoding="utf-8")

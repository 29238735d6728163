# SPDX-License-Identifier: Apache-2.0
"""Results: their schema, the report made of them, and the comparison of two."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import fastjsonschema
import pytest
from typer.testing import CliRunner

from quorum_bench.bench import Scenario, point_result
from quorum_bench.cli.app import app
from quorum_bench.compare import CompareError, compare, differences
from quorum_bench.metrics import ALL
from quorum_bench.report import honest_line, write_report
from quorum_bench.report.html import html_text
from quorum_bench.report.markdown import markdown_text
from quorum_bench.results import (
    SAMPLES,
    Finding,
    MetricInfo,
    Plot,
    Results,
    ResultsError,
    Table,
    Value,
    read_results,
    schema_text,
    write_results,
)
from quorum_bench.sample_file import SampleFile

SCHEMA = Path(__file__).parents[3] / "benchmarks/src/quorum_bench/results.schema.json"


@pytest.fixture
def write(make_measured, tmp_path):
    """Writes results whose latencies are scaled, with their samples unless told otherwise."""

    def write(name, scale=1.0, *, with_samples=True, environment=None):
        scenario = Scenario("growth", "How it <grows>", "Does it?", lambda _: None)
        other = Scenario("other", "Other", "What?", lambda _: None)
        measured = [
            make_measured(
                f"growth/members={n},concurrency={c}", scale * n * c, 10 * n + c, members=n, concurrency=c
            )
            for n in (1, 2, 4)
            for c in (1, 8)
        ]
        result = scenario.result(
            measured,
            findings=[
                Finding(
                    text="it grows by",
                    value=Value(value=1.5, low=1, high=2),
                    unit="ms",
                    aim="under 2",
                    met=True,
                ),
                Finding(text="and again by", value=Value(value=9, low=8, high=9.5), aim="under 5", met=False),
            ],
            plots=[
                Plot(
                    title="p50", x="members", y=["latency_p50"], series="concurrency", ideal=[(1, 1), (4, 4)]
                ),
                Plot(title="nothing", x="absent", y=["latency_p50"]),
            ],
            tables=[Table(title="Side by side", columns=["a", "b"], rows=[["1", "2"]])],
        )
        results = Results(
            made="2026-01-02 03:04 UTC",
            form="short",
            effort={"seconds": 1.0, "warmup_s": 0.5, "runs": 3},
            environment={"cpu": "a CPU", "cores_usable": 2, "python": "3.11"} | (environment or {}),
            metrics={
                m.key: MetricInfo(title=m.title, unit=m.unit, better=m.better, formula=m.formula) for m in ALL
            },
            scenarios=[result, other.result([], skipped="it needs a thing")],
        )
        folder = tmp_path / name
        folder.mkdir()
        write_results(results, folder)
        if with_samples:
            with SampleFile(folder / SAMPLES) as file:
                for point in measured:
                    for number, run in enumerate(point.runs):
                        file.add(point.id, number, run.samples, run.window_ns)
        return folder

    return write


def test_the_schema_on_disk_is_that_of_the_code():
    assert SCHEMA.read_text("utf-8") == schema_text(), "run: python -m quorum_bench.results"


def test_results_are_valid_by_the_schema(write):
    validate = fastjsonschema.compile(json.loads(SCHEMA.read_text("utf-8")))
    data = json.loads((write("a") / "results.json").read_text("utf-8"))
    validate(data)
    for break_it in (
        lambda d: d.pop("metrics"),
        lambda d: d.update(extra=1),
        lambda d: d.update(schema_version=2),
        lambda d: d["scenarios"][0]["points"][0]["values"]["cpu"].update(value="much"),
    ):
        broken = json.loads(json.dumps(data))
        break_it(broken)
        with pytest.raises(fastjsonschema.JsonSchemaException):
            validate(broken)


def test_they_read_back_as_written(write):
    folder = write("a")
    assert read_results(folder) == read_results(folder / "results.json")


@pytest.mark.parametrize(("text", "words"), [("{}", "made"), ("[", "JSON"), (None, "No such file")])
def test_what_is_no_result_is_refused_with_its_place(tmp_path, text, words):
    if text is not None:
        (tmp_path / "results.json").write_text(text, encoding="utf-8")
    with pytest.raises(ResultsError, match=words):
        read_results(tmp_path)


def test_a_point_has_every_metric_or_the_reason_why_not(make_measured):
    result = point_result(make_measured("x/y=1", 5.0, y=1))
    assert set(result.values) | set(result.missing) == {m.key for m in ALL}
    refusals = {"refusal_p50", "refusal_p99", "recovery"}
    assert set(result.missing) == {"first_token", "accuracy", "aggregation", "bulk", *refusals}
    for value in result.values.values():
        assert value.low <= value.value <= value.high


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [
            v for k, v in attrs if k in ("src", "href", "xlink:href") and v and not v.startswith("#")
        ]


def test_the_report_needs_nothing_else_and_escapes(write):
    folder = write("a")
    write_report(read_results(folder), folder)
    html = (folder / "report.html").read_text("utf-8")
    page = _Page()
    page.feed(html)
    assert page.links == []
    assert not re.findall(r"url\(\s*['\"]?https?:|@import", html)
    assert page.tags.count("svg") == 1
    assert "How it &lt;grows&gt;" in html
    assert "prefers-color-scheme:dark" in html
    assert "it needs a thing" in html
    summary = (folder / "summary.md").read_text("utf-8")
    assert "| members | concurrency |" in summary
    assert "**9.00 [8.00, 9.50]** (aim: under 5; missed)" in summary


def finding(text: str, low: float, high: float, no_effect: float | None) -> Finding:
    value = Value(value=(low + high) / 2, low=low, high=high)
    return Finding(text=text, value=value, unit="ms", aim="under 1", met=True, no_effect=no_effect)


def test_a_finding_that_may_be_no_difference_is_neither_bold_nor_met(write):
    results = read_results(write("a"))
    findings = [finding("unsure", -1, 3, 0), finding("sure", 1, 3, 0), finding("amount", -1, 3, None)]
    scenario = results.scenarios[0].model_copy(update={"findings": findings})
    results = results.model_copy(update={"scenarios": [scenario]})
    assert [f.outcome for f in findings] == ["undecided", "met", "met"]
    lines = [line for line in markdown_text(results).splitlines() if line.startswith("- ")]
    assert lines == [
        "- unsure: 1.00 ms [-1.00, 3.00], no difference shown (aim: under 1; undecided)",
        "- sure: **2.00 ms [1.00, 3.00]** (aim: under 1; met)",
        "- amount: **1.00 ms [-1.00, 3.00]** (aim: under 1; met)",
    ]
    page = html_text(results)
    assert page.count("no difference shown") == page.count(">undecided<") == 1


def test_the_line_to_quote_names_the_comparison_its_interval_and_the_load(write):
    results = read_results(write("a", environment={"load_before": [1.5, 1, 1]}))
    peers = results.scenarios[0].model_copy(
        update={
            "name": "peers",
            "findings": [finding("answers per second, as a multiple of the best peer's (B)", 0.8, 1.0, 1)],
            "points": [
                point.model_copy(update={"labels": {"server": name}})
                for name, point in zip(("quorum", "A", "B"), results.scenarios[0].points, strict=False)
            ],
        }
    )
    line = honest_line(results.model_copy(update={"scenarios": [peers]}))
    assert line == (
        "On 2 cores of a CPU (load 1.5 as it began): answers per second, as a multiple of the best peer's "
        "(B): 0.900 ms [0.800, 1.00] (peers: A, B)."
    )


def test_equal_results_show_no_difference(write):
    rows = compare(write("a"), write("b"))
    assert len(rows) == 6 * 4
    assert {row.verdict for row in rows} == {"no difference shown"}
    assert all(row.ratio.value == pytest.approx(1) for row in rows)


@pytest.mark.parametrize("with_samples", [True, False])
def test_a_slower_one_is_worse_by_as_much(write, with_samples):
    a, b = write("a", with_samples=with_samples), write("b", 1.3, with_samples=with_samples)
    for row in compare(a, b, ["latency_p50"]):
        assert row.ratio.value == pytest.approx(1.3, rel=0.03)
        assert row.verdict == "worse"
        assert row.exceeds(1.1, strict=False)
        assert not row.exceeds(1.5, strict=True)
    assert {row.verdict for row in compare(b, a, ["latency_p50"])} == {"better"}


def test_where_more_is_better_the_ratio_still_says_worse(write):
    a, b = write("a"), write("b")
    data = json.loads((b / "results.json").read_text("utf-8"))
    for point in data["scenarios"][0]["points"]:
        v = point["values"]["throughput"]
        v.update(value=v["value"] / 2, low=v["low"] / 2, high=v["high"] / 2, runs=[x / 2 for x in v["runs"]])
    (b / "results.json").write_text(json.dumps(data), encoding="utf-8")
    assert {row.ratio.value for row in compare(a, b, ["throughput"])} == {2.0}


def test_a_gate_for_somebodys_ci(write):
    a, slower = str(write("a")), str(write("b", 1.3))
    run = CliRunner().invoke
    assert run(app, ["compare", a, a, "--max-ratio", "1.1"]).exit_code == 0
    failed = run(app, ["compare", a, slower, "-m", "latency_p50", "--max-ratio", "1.1", "--json"])
    assert failed.exit_code == 1
    said = json.loads(failed.stdout)
    assert len(said["regressions"]) == 6
    assert {row["verdict"] for row in said["rows"]} == {"worse"}
    assert run(app, ["compare", a, slower, "-m", "latency_p50"]).exit_code == 0
    assert (
        run(app, ["compare", a, a, "-m", "latency_p50", "--max-ratio", "1.0001", "--strict"]).exit_code == 1
    )
    assert run(app, ["compare", a, "nowhere"]).exit_code == 2
    assert run(app, ["compare", a, a, "-m", "speed"]).exit_code == 2


def test_other_machines_are_pointed_out(write):
    a, b = write("a"), write("b", environment={"cores_usable": 64})
    assert differences(a, b) == ["cores_usable: 2 and 64"]


def test_nothing_in_common_is_an_error(write, tmp_path):
    a, b = write("a"), write("b")
    text = (b / "results.json").read_text("utf-8").replace("growth/", "other/")
    (b / "results.json").write_text(text, encoding="utf-8")
    with pytest.raises(CompareError, match="no point in common"):
        compare(a, b)

# SPDX-License-Identifier: Apache-2.0
"""Rules, their own tests, guide and runbook agree with the metrics; Prometheus' tool reads them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.prometheus import RULES, needed

from quorum.deployment.server import MetricsSpec, ServerSpec
from quorum.serving.families import FAMILIES

FOLDER = RULES.parent
DOCS = Path(__file__).parents[2] / "docs"
GUIDE = DOCS / "guides" / "metrics.md"
RUNBOOK = DOCS / "runbook.md"
PARTS = ["Means", "Look at", "Do"]


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> set[str]:
    return {rule["alert"] for rule in rules() if "alert" in rule}


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "quorum.rules.yml"),
        ("test", "rules", "quorum.rules.test.yml", "quorum.rules.days.test.yml"),
    ],
    ids=" ".join,
)
def test_prometheus_reads_the_rules_and_they_pass_their_tests(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [needed("promtool"), *arguments], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_of_the_rules_is_one_that_is_served() -> None:
    parts = {f"{name}_{part}" for name in FAMILIES for part in ("bucket", "sum", "count")}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for rule in rules():
        expression = re.sub(r'"[^"]*"', "", rule["expr"])
        used = set(re.findall(r"\bquorum[a-z0-9_:]*", expression))
        assert used <= FAMILIES.keys() | parts | recorded, rule


def _adapter_query(name: str) -> str:
    """A query of the autoscaler, as prometheus-adapter asks it."""
    settings = yaml.safe_load((FOLDER.parent / "helm" / "prometheus-adapter.yaml").read_text("utf-8"))
    (rule,) = (one for one in settings["rules"]["custom"] if one["name"]["as"] == name)
    query = str(rule["metricsQuery"])
    return query.replace("<<.GroupBy>>", "pod").replace("<<.LabelMatchers>>", 'namespace="shop"')


def test_the_autoscaler_gets_a_figure_for_servers_without_requests(tmp_path: Path) -> None:
    """Kubernetes takes no server away while a figure of one is missing."""

    def series(name: str, pod: str, values: str, labels: str = "") -> dict[str, str]:
        return {"series": f'{name}{{namespace="shop",pod="{pod}"{labels}}}', "values": values}

    gate = ',model="quorum_gate"'
    samples = [{"labels": '{pod="busy"}', "value": 0.5}, {"labels": '{pod="idle"}', "value": 0}]
    case = {
        "interval": "1m",
        "input_series": [
            series("nv_inference_queue_duration_us", "busy", "0+5000000x9", ',model="a"'),
            series("nv_inference_request_success", "busy", "0+10x9", gate),
            series("nv_inference_queue_duration_us", "idle", "7x9", ',model="a"'),
            series("nv_inference_request_success", "idle", "3x9", gate),
        ],
        "promql_expr_test": [
            {"expr": _adapter_query("quorum_queue_seconds"), "eval_time": "9m", "exp_samples": samples}
        ],
    }
    (tmp_path / "case.yml").write_text(yaml.safe_dump({"tests": [case]}))
    command = [needed("promtool"), "test", "rules", "case.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_in_a_test() -> None:
    files = FOLDER.glob("quorum.rules*.test.yml")
    cases = [case for file in files for case in yaml.safe_load(file.read_text("utf-8"))["tests"]]
    fired = {check["alertname"] for case in cases for check in case["alert_rule_test"] if check["exp_alerts"]}
    assert fired == alerts()


def test_the_runbook_has_every_alert_and_every_alert_leads_there() -> None:
    text = RUNBOOK.read_text("utf-8")
    sections = re.split(r"^## ", text, flags=re.M)[1:]
    assert [section.split("\n", 1)[0] for section in sections] == [
        r["alert"] for r in rules() if "alert" in r
    ]
    for section in sections:
        assert re.findall(r"^\*\*([\w ]+)\*\*: ", section, re.M) == PARTS, section
    for rule in rules():
        if "alert" in rule:
            link = f"{{{{ $externalLabels.quorum_docs }}}}/runbook/#{rule['alert'].lower()}"
            assert rule["annotations"]["runbook_url"] == link
    used = set(re.findall(r"`(quorum:[a-z0-9_:]+)`", text))
    assert used <= {rule["record"] for rule in rules() if "record" in rule}
    assert set(re.findall(r"`(quorum_[a-z_]+)", text)) <= {*FAMILIES, "quorum_docs"}


def test_the_guide_explains_every_metric() -> None:
    text = GUIDE.read_text("utf-8")
    named = {
        name for name in re.findall(r"`(quorum_\w+)`", text) if name in FAMILIES or name.endswith("_total")
    }
    assert named == FAMILIES.keys()
    for name, family in FAMILIES.items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{name}`")]
        labels = row.split("|")[2]
        assert re.findall(r"`(\w+)`", labels) == list(family.labels), name


def test_the_example_scrapes_the_usual_ports() -> None:
    jobs = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    assert {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs} == {
        "quorum": [f"{MetricsSpec().host}:{MetricsSpec().port}"],
        "triton": [f"{ServerSpec().host}:{ServerSpec().metrics_port}"],
    }

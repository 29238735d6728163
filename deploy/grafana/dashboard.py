#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write quorum.json, the Grafana dashboard of the metrics in docs/guides/metrics.md.

    .venv/bin/python deploy/grafana/dashboard.py

Needs grafana-foundation-sdk, which `make setup-dev` installs. A test compares quorum.json with this script
and lints every expression; its long form runs each against a server under load.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

from grafana_foundation_sdk.builders import common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)

TARGET = Path(__file__).with_name("quorum.json")
SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
_COLUMNS = 24


class Query(NamedTuple):
    """An expression of PromQL and the legend of its series."""

    expr: str
    legend: str


class Panel(NamedTuple):
    """One panel.

    Attributes:
        title: What it shows.
        about: What to look for.
        unit: Of Grafana: reqps, s, percentunit, short.
        queries: What it draws.
        form: ``lines``, ``stacked`` areas, or ``stat`` for the number now.
        width: Of 24 columns.
    """

    title: str
    about: str
    unit: str
    queries: tuple[Query, ...]
    form: str = "lines"
    width: int = 8


def rate(metric: str, by: str, matchers: str = "") -> str:
    """Per second, summed over the servers that are chosen."""
    return f"sum by ({by}) (rate({of(metric, matchers)}[$__rate_interval]))"


def of(metric: str, matchers: str = "") -> str:
    """A metric of the servers that are chosen."""
    more = f", {matchers}" if matchers else ""
    return f'{metric}{{instance=~"$instance"{more}}}'


def total(metric: str) -> str:
    """Per second, over all labels."""
    return f"sum(rate({of(metric)}[$__rate_interval]))"


def share(part: str, whole: str) -> str:
    """One sum as a part of another; nothing where there was nothing."""
    return f"{part} / ({whole} > 0)"


def quantile(of_all: float, metric: str, by: str) -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({of_all}, {rate(f'{metric}_bucket', f'{by}, le')})"


ASKED = 'status!="NOT_ASKED"'
# fmt: off
ROWS: dict[str, tuple[Panel, ...]] = {
    "Now": (
        Panel("Servers up", "tritonserver runs", "short",
              (Query(f"sum({of('quorum_server_up')})", "up"),), "stat", 3),
        Panel("Channels that answer", "1: a probe of it was answered lately", "short",
              (Query(f"min by (channel) ({of('quorum_channel_up')})", "{{channel}}"),), "stat", 6),
        Panel("Version of each channel", "of the learned weights", "short",
              (Query(f"max by (channel) ({of('quorum_channel_version')})", "{{channel}}"),), "stat", 6),
        Panel("Canary", "share of the products", "percentunit",
              (Query(f"max({of('quorum_canary_share')})", "canary"),), "stat", 3),
        Panel("Restarts in a day", "of tritonserver", "short",
              (Query(f"sum(increase({of('quorum_server_restarts_total')}[1d]))", "restarts"),), "stat", 3),
        Panel("Faults in a day", "of the server and its steps, and losses of workers", "short",
              (Query(f"sum by (kind) (increase({of('quorum_incidents_total')}[1d]))", "{{kind}}"),),
              "stat", 3),
    ),
    "Requests": (
        Panel("Requests by outcome", "overloaded: refused by the gate; undecided: no value at all", "reqps",
              (Query(rate("quorum_requests_total", "channel, outcome"), "{{channel}} {{outcome}}"),),
              "stacked"),
        Panel("Latency, gate to decision", "by channel", "s",
              tuple(Query(quantile(q, "quorum_request_seconds", "channel"), f"{{{{channel}}}} p{q * 100:.0f}")
                    for q in (0.5, 0.95))),
        Panel("Inside, and the limits", "above a limit others are refused", "short",
              (Query(f"sum({of('quorum_in_flight')})", "inside"),
               Query(f"sum by (priority) ({of('quorum_in_flight_limit')})", "limit for {{priority}}"))),
        Panel("Admitted by priority", "jobs ask as bulk", "reqps",
              (Query(rate("quorum_admitted_total", "channel, priority"), "{{channel}} {{priority}}"),),
              "stacked"),
        Panel("Not answered", "refused, failed or without any value: parts of all requests", "percentunit",
              (Query(rate("quorum_requests_total", "outcome", 'outcome!~"answered|cancelled"')
                     + f" / on () group_left () ({total('quorum_requests_total')} > 0)", "{{outcome}}"),
               Query(f"{total('quorum_cancellations_total')} / ({total('quorum_requests_total')} > 0)",
                     "cancelled"))),
        Panel("Version that decided", "a rollout moves answers from one to the next", "reqps",
              (Query(rate("quorum_answers_total", "channel, version"), "{{channel}} version {{version}}"),),
              "stacked"),
    ),
    "Decisions": (
        Panel("Decisions by outcome", "no_answer: all abstained; no_quorum: withheld", "cps",
              (Query(rate("quorum_decisions_total", "outcome"), "{{outcome}}"),), "stacked"),
        Panel("Decided, by attribute", "with a value, n/a included", "percentunit",
              (Query(share(rate("quorum_decisions_total", "attribute", 'outcome=~"value|not_applicable"'),
                           rate("quorum_decisions_total", "attribute")), "{{attribute}}"),)),
        Panel("Confidence", "mean and lower quarter, by channel", "percentunit",
              (Query(share(rate("quorum_confidence_sum", "channel"),
                           rate("quorum_confidence_count", "channel")), "{{channel}} mean"),
               Query(quantile(0.25, "quorum_confidence", "channel"), "{{channel}} p25"))),
    ),
    "Members": (
        Panel("Votes by member and status", "ANSWERED is a vote, all others are abstentions", "cps",
              (Query(rate("quorum_votes_total", "member, status"), "{{member}} {{status}}"),), "stacked"),
        Panel("Agreement with the decision", "of its votes; a member that drops has changed", "percentunit",
              (Query(share(rate("quorum_votes_agreeing_total", "member"),
                           rate("quorum_votes_total", "member", 'status="ANSWERED"')), "{{member}}"),)),
        Panel("Missed deadlines", "of the votes that a member was asked for", "percentunit",
              (Query(share(rate("quorum_votes_total", "member", 'status="TIMEOUT"'),
                           rate("quorum_votes_total", "member", ASKED)), "{{member}}"),)),
        Panel("Calls, and calls saved", "a lazy channel leaves members out", "reqps",
              (Query(rate("quorum_member_calls_total", "member"), "{{member}}"),
               Query(rate("quorum_member_calls_spared_total", "member"), "{{member}} saved"))),
        Panel("Attributes not asked for", "as they were settled", "cps",
              (Query(rate("quorum_votes_spared_total", "member"), "{{member}}"),)),
        Panel("Seconds of work per call", "of its runtime", "s",
              (Query(share(rate("quorum_member_work_seconds_total", "member"),
                           rate("quorum_member_calls_total", "member")), "{{member}}"),)),
        Panel("Tokens per second", "as far as known", "cps",
              (Query(rate("quorum_member_prompt_tokens_total", "member"), "{{member}} prompt"),
               Query(rate("quorum_member_cached_tokens_total", "member"), "{{member}} from cache"),
               Query(rate("quorum_member_answer_tokens_total", "member"), "{{member}} answer"))),
        Panel("Cost per hour", "in the currency of the prices; unpriced answers count nothing", "short",
              (Query(f"3600 * {rate('quorum_member_cost_total', 'member')}", "{{member}}"),)),
        Panel("Answers without a price", "what they cost is not known", "reqps",
              (Query(rate("quorum_member_unpriced_total", "member"), "{{member}}"),)),
    ),
    "Endpoints and budgets": (
        Panel("Breakers", "1 for the state that each is in", "short",
              (Query(f"max by (member, endpoint, state) ({of('quorum_endpoint_breaker_state')})",
                     "{{member}} {{endpoint}} {{state}}"),)),
        Panel("Breakers that opened", "in an hour", "short",
              (Query(f"sum by (member, endpoint) "
                     f"(increase({of('quorum_endpoint_breaker_opened_total')}[1h]))",
                     "{{member}} {{endpoint}}"),)),
        Panel("Requests to endpoints", "limited: 429", "reqps",
              (Query(rate("quorum_endpoint_requests_total", "endpoint, outcome"),
                     "{{endpoint}} {{outcome}}"),), "stacked"),
        Panel("In flight, and the limit that was learned", "by endpoint", "short",
              (Query(f"sum by (endpoint) ({of('quorum_endpoint_in_flight')})", "{{endpoint}}"),
               Query(f"sum by (endpoint) ({of('quorum_endpoint_concurrency_limit')})",
                     "{{endpoint}} limit"))),
        Panel("Waiting, and left alone", "questions in line; seconds that an endpoint asked for", "short",
              (Query(f"sum by (member) ({of('quorum_remote_waiting')})", "{{member}} waiting"),
               Query(f"max by (endpoint) ({of('quorum_endpoint_held_seconds')})", "{{endpoint}} held, s"))),
        Panel("Requests beyond one per question", "retries and hedges", "percentunit",
              (Query(share(rate("quorum_remote_repeated_total", "member"),
                           rate("quorum_remote_questions_total", "member")), "{{member}}"),)),
        Panel("Tokens as endpoints count them", "", "cps",
              (Query(rate("quorum_endpoint_tokens_total", "endpoint, kind"), "{{endpoint}} {{kind}}"),)),
        Panel("Calls of budgets", "of this minute and day", "percentunit",
              (Query("max by (member, window) "
                     f"({of('quorum_budget_calls')} / {of('quorum_budget_calls_limit')})",
                     "{{member}} {{window}}"),)),
        Panel("Cost of budgets", "of this minute and day", "percentunit",
              (Query("max by (member, window) "
                     f"({of('quorum_budget_cost')} / {of('quorum_budget_cost_limit')})",
                     "{{member}} {{window}}"),)),
    ),
}
# fmt: on


def _panel(number: int, panel: Panel) -> stat.Panel | timeseries.Panel:
    built = _stat() if panel.form == "stat" else _lines(panel.form == "stacked")
    for at, (expr, legend) in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(chr(ord("A") + at))
        built = built.with_target(target.instant() if panel.form == "stat" else target.range())
    height = 4 if panel.form == "stat" else 8
    built = built.id(number).title(panel.title).description(panel.about).unit(panel.unit)
    return built.datasource(SOURCE).span(panel.width).height(height)


def _stat() -> stat.Panel:
    # Nothing here is good or bad by itself: one colour.
    steps = [Threshold(value=None, color="blue")]
    colours = build.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    return stat.Panel().thresholds(colours).reduce_options(last)


def _lines(stacked: bool) -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).show_legend(True)
    tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI)
    built = timeseries.Panel().draw_style(GraphDrawStyle.LINE).tooltip(tooltip).min(0)
    built = built.legend(legend.placement(LegendPlacement.BOTTOM))
    if stacked:
        built = built.fill_opacity(30).stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    return built


def dashboard() -> str:
    """The dashboard as JSON."""
    source = build.DatasourceVariable("datasource").type("prometheus").label("Prometheus")
    servers = (
        build.QueryVariable("instance")
        .label("Server")
        .datasource(SOURCE)
        .query("label_values(quorum_server_up, instance)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )
    board = (
        build.Dashboard("quorum")
        .uid("quorum")
        .description("Requests, decisions, members, endpoints and budgets: docs/guides/metrics.md")
        .tags(["quorum", "llm", "triton"])
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .refresh("30s")
        .time("now-3h", "now")
        .readonly()
        .variables([source, servers])
    )
    numbers = itertools.count(1)
    for row, panels in ROWS.items():
        board = board.with_row(build.Row(row).id(next(numbers)))
        for panel in panels:
            board = board.with_panel(_panel(next(numbers), panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


if __name__ == "__main__":
    TARGET.write_text(dashboard(), "utf-8")

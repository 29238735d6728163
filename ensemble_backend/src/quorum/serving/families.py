# SPDX-License-Identifier: Apache-2.0
"""Name every metric once: its kind, its labels and what it says.

Labels have few values: channels, members, attributes of the catalogue, statuses, loaded versions. Nothing
that a caller sends becomes one.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]


class Family(NamedTuple):
    """One metric.

    Attributes:
        name: As Prometheus stores it: a counter ends in ``_total``.
        kind: Of Prometheus.
        labels: Their names.
        help: One line.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


REQUESTS = Family(
    "quorum_requests_total", "counter", ("channel", "outcome"), "Requests that ended, by how they ended."
)
ADMITTED = Family(
    "quorum_admitted_total", "counter", ("channel", "priority"), "Requests that the gate let in."
)
CANCELLATIONS = Family(
    "quorum_cancellations_total", "counter", (), "Requests that a caller cancelled while they were inside."
)
REQUEST_SECONDS = Family(
    "quorum_request_seconds", "histogram", ("channel",), "Seconds from the gate to the decision."
)
ANSWERS = Family(
    "quorum_answers_total",
    "counter",
    ("channel", "version"),
    "Answers by the version of the weights that decided them, as long as it is listed in state.json.",
)
DECISIONS = Family(
    "quorum_decisions_total", "counter", ("attribute", "outcome"), "Decisions on one attribute each."
)
CONFIDENCE = Family(
    "quorum_confidence", "histogram", ("channel",), 'Confidence of decisions with a value, "n/a" included.'
)
VOTES = Family("quorum_votes_total", "counter", ("member", "status"), "Votes on one attribute each.")
AGREEING = Family(
    "quorum_votes_agreeing_total", "counter", ("member",), "Votes with exactly the value that was decided."
)
SPARED_VOTES = Family(
    "quorum_votes_spared_total",
    "counter",
    ("member",),
    "Attributes that a lazy channel did not ask a member, as they were settled.",
)
SPARED_CALLS = Family(
    "quorum_member_calls_spared_total",
    "counter",
    ("member",),
    "Answers for which a lazy channel did not ask a member at all.",
)
CALLS = Family(
    "quorum_member_calls_total", "counter", ("member",), "Questions that a member's runtime was asked."
)
PROMPT_TOKENS = Family(
    "quorum_member_prompt_tokens_total", "counter", ("member",), "Tokens of prompts, as far as known."
)
ANSWER_TOKENS = Family(
    "quorum_member_answer_tokens_total", "counter", ("member",), "Generated tokens, as far as known."
)
CACHED_TOKENS = Family(
    "quorum_member_cached_tokens_total",
    "counter",
    ("member",),
    "Tokens of prompts that a prefix cache held, as far as known.",
)
WORK_SECONDS = Family(
    "quorum_member_work_seconds_total", "counter", ("member",), "Seconds that a member's runtime worked."
)
COST = Family(
    "quorum_member_cost_total",
    "counter",
    ("member",),
    "Cost in the currency of the prices; what is not known counts as 0.",
)
UNPRICED = Family(
    "quorum_member_unpriced_total",
    "counter",
    ("member",),
    "Answers of which a member's cost is not known.",
)
USAGE = (CALLS, PROMPT_TOKENS, ANSWER_TOKENS, CACHED_TOKENS, WORK_SECONDS, COST)
"""In the order of the columns of ``MEMBER_USAGE``."""

IN_FLIGHT = Family("quorum_in_flight", "gauge", (), "Requests inside the server now.")
IN_FLIGHT_LIMIT = Family(
    "quorum_in_flight_limit", "gauge", ("priority",), "Requests inside from which on others are refused."
)
SERVER_UP = Family("quorum_server_up", "gauge", (), "Whether the process of tritonserver runs.")
CHANNEL_UP = Family("quorum_channel_up", "gauge", ("channel",), "Whether a channel answered a probe lately.")
CHANNEL_VERSION = Family(
    "quorum_channel_version", "gauge", ("channel",), "Version of the weights that a channel is pinned to."
)
CANARY_SHARE = Family(
    "quorum_canary_share", "gauge", (), "Share of the products that clients route to the canary."
)
RESTARTS = Family(
    "quorum_server_restarts_total", "counter", (), "Starts of tritonserver after the first one."
)
INCIDENTS = Family(
    "quorum_incidents_total",
    "counter",
    ("kind",),
    "Faults of the server and its steps, and losses of workers.",
)
BREAKER = Family(
    "quorum_endpoint_breaker_state",
    "gauge",
    ("member", "endpoint", "state"),
    "1 for the state of an endpoint's breaker.",
)
BREAKER_OPENED = Family(
    "quorum_endpoint_breaker_opened_total",
    "counter",
    ("member", "endpoint"),
    "How often a breaker has opened.",
)
ENDPOINT_REQUESTS = Family(
    "quorum_endpoint_requests_total",
    "counter",
    ("member", "endpoint", "outcome"),
    "Requests to an endpoint, by how they ended; not_waited: cancelled, or refused for the question.",
)
ENDPOINT_TOKENS = Family(
    "quorum_endpoint_tokens_total",
    "counter",
    ("member", "endpoint", "kind"),
    "Tokens as an endpoint counts them.",
)
ENDPOINT_IN_FLIGHT = Family(
    "quorum_endpoint_in_flight", "gauge", ("member", "endpoint"), "Requests to an endpoint now."
)
ENDPOINT_LIMIT = Family(
    "quorum_endpoint_concurrency_limit",
    "gauge",
    ("member", "endpoint"),
    "Most requests at once, as learned from an endpoint.",
)
ENDPOINT_HELD = Family(
    "quorum_endpoint_held_seconds",
    "gauge",
    ("member", "endpoint"),
    "Seconds for which an endpoint wants to be left alone.",
)
REMOTE_QUESTIONS = Family(
    "quorum_remote_questions_total", "counter", ("member",), "Questions that a remote member took."
)
REMOTE_REPEATED = Family(
    "quorum_remote_repeated_total", "counter", ("member",), "Requests beyond one for each question."
)
REMOTE_WAITING = Family(
    "quorum_remote_waiting", "gauge", ("member",), "Questions that wait for the limits of endpoints now."
)
BUDGET_CALLS = Family(
    "quorum_budget_calls", "gauge", ("member", "window"), "Calls of this minute or day (UTC)."
)
BUDGET_COST = Family("quorum_budget_cost", "gauge", ("member", "window"), "Cost of this minute or day (UTC).")
BUDGET_CALLS_LIMIT = Family(
    "quorum_budget_calls_limit", "gauge", ("member", "window"), "Calls that a member may make."
)
BUDGET_COST_LIMIT = Family(
    "quorum_budget_cost_limit", "gauge", ("member", "window"), "Cost that a member may cause."
)

FAMILIES = {family.name: family for family in globals().values() if isinstance(family, Family)}

# SPDX-License-Identifier: Apache-2.0
"""The wire contract: tensors, names, statuses, limits and errors, once for server, client and benchmark.

===================================  ================================================================
module                               content
===================================  ================================================================
:mod:`quorum_contract.tensors`       the tensors: name, datatype and shape of each
:mod:`quorum_contract.names`         the names of models and channels
:mod:`quorum_contract.status`        the status of a vote, and of a decision
:mod:`quorum_contract.priority`      how urgent a request is
:mod:`quorum_contract.cancellation`  a caller that waits no longer
:mod:`quorum_contract.scores`        the range of a vote's score
:mod:`quorum_contract.usage`         calls, tokens and cost of an answer, and prices
:mod:`quorum_contract.checks`        the limits of a request, and their checks
:mod:`quorum_contract.errors`        the base of every exception, and error codes in messages
:mod:`quorum_contract.key`           the header of a caller's key
:mod:`quorum_contract.foreign`       the meaning of ``UNAVAILABLE`` from other programs
===================================  ================================================================

Standard library only: every step inside the server imports it.
"""

from quorum_contract.cancellation import CANCEL
from quorum_contract.checks import (
    MAX_ATTRIBUTE_BYTES,
    MAX_ATTRIBUTES,
    MAX_CATEGORY_BYTES,
    MAX_LIMIT,
    MAX_TEXT_BYTES,
)
from quorum_contract.errors import InvalidRequest, Overloaded, QuorumError, RequestError, Unavailable
from quorum_contract.names import (
    CANARY,
    CHANNELS,
    GATE,
    LAZY,
    LAZY_CANARY,
    LAZY_CHANNELS,
    LAZY_OF,
    MEMBER_BACKEND,
    NOT_APPLICABLE,
    RECOMMEND,
    RECOMMEND_CANARY,
    RECOMMEND_CHANNELS,
    RETRIEVER,
    STABLE,
    VOTE,
)
from quorum_contract.priority import BULK, INTERACTIVE, PRIORITIES, PRIORITY, Priority
from quorum_contract.status import DecisionStatus, Status
from quorum_contract.tensors import (
    ATTRIBUTES,
    CANARY_SHARE,
    CATEGORY,
    CONFIDENCE,
    COST,
    DECISION_STATUS,
    MEMBER_SCORES,
    MEMBER_STATUS,
    MEMBER_USAGE,
    MEMBER_VALUES,
    MEMBERS,
    OPEN,
    QUESTION,
    TEXT,
    VALUES,
    VOTES,
    WEIGHTS_VERSION,
)
from quorum_contract.usage import Price, Spent

__all__ = [
    "ATTRIBUTES",
    "BULK",
    "CANARY",
    "CANARY_SHARE",
    "CANCEL",
    "CATEGORY",
    "CHANNELS",
    "CONFIDENCE",
    "COST",
    "DECISION_STATUS",
    "GATE",
    "INTERACTIVE",
    "LAZY",
    "LAZY_CANARY",
    "LAZY_CHANNELS",
    "LAZY_OF",
    "MAX_ATTRIBUTES",
    "MAX_ATTRIBUTE_BYTES",
    "MAX_CATEGORY_BYTES",
    "MAX_LIMIT",
    "MAX_TEXT_BYTES",
    "MEMBERS",
    "MEMBER_BACKEND",
    "MEMBER_SCORES",
    "MEMBER_STATUS",
    "MEMBER_USAGE",
    "MEMBER_VALUES",
    "NOT_APPLICABLE",
    "OPEN",
    "PRIORITIES",
    "PRIORITY",
    "QUESTION",
    "RECOMMEND",
    "RECOMMEND_CANARY",
    "RECOMMEND_CHANNELS",
    "RETRIEVER",
    "STABLE",
    "TEXT",
    "VALUES",
    "VOTE",
    "VOTES",
    "WEIGHTS_VERSION",
    "DecisionStatus",
    "InvalidRequest",
    "Overloaded",
    "Price",
    "Priority",
    "QuorumError",
    "RequestError",
    "Spent",
    "Status",
    "Unavailable",
]

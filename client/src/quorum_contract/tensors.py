# SPDX-License-Identifier: Apache-2.0
"""Name, datatype and shape of each tensor, once for configurations, models, clients and benchmarks.

One request is one product text and ``A`` attributes. The ensembles have no batch
dimension (``max_batch_size: 0``), so the shapes are exact; ``N`` is the number of members.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Datatype = Literal["BYTES", "FP32", "FP64", "INT32", "INT64", "UINT8"]
Dimension = Literal[1, 6, "A", "N", "K", "BYTES"]

TEXT = "TEXT"
CATEGORY = "CATEGORY"
ATTRIBUTES = "ATTRIBUTES"
VALUES = "VALUES"
CONFIDENCE = "CONFIDENCE"
MEMBERS = "MEMBERS"
MEMBER_VALUES = "MEMBER_VALUES"
MEMBER_STATUS = "MEMBER_STATUS"
MEMBER_SCORES = "MEMBER_SCORES"
DECISION_STATUS = "DECISION_STATUS"
COST = "COST"
MEMBER_USAGE = "MEMBER_USAGE"
WEIGHTS_VERSION = "WEIGHTS_VERSION"
CANARY_SHARE = "CANARY_SHARE"
LIMIT = "LIMIT"
MIN_SCORE = "MIN_SCORE"
KEYPHRASES = "KEYPHRASES"
KEYPHRASE_SCORES = "KEYPHRASE_SCORES"
RETRIEVER_VERSION = "RETRIEVER_VERSION"

# Between the steps of the ensemble only; never seen by a client.
QUESTION = "QUESTION"
CANARY_QUESTION = "CANARY_QUESTION"
VOTES = "VOTES"
OPEN = "OPEN"


class Tensor(NamedTuple):
    """One tensor of the contract.

    Attributes:
        name: Name on the wire.
        datatype: KServe's name of its type.
        shape: Sizes; ``"A"`` attributes, ``"N"`` members, ``"K"`` keyphrases, or the ``"BYTES"`` of its
            packed content.
        meaning: One line.
    """

    name: str
    datatype: Datatype
    shape: tuple[Dimension, ...]
    meaning: str

    @property
    def dims(self) -> list[int]:
        """The shape for a model configuration: -1 where the size varies."""
        return [size if isinstance(size, int) else -1 for size in self.shape]

    def sizes(self, attributes: int, members: int) -> list[int]:
        """The shape in one answer."""
        counts = {"A": attributes, "N": members}
        return [size if isinstance(size, int) else counts[size] for size in self.shape]

    def named(self, name: str) -> Tensor:
        """The same tensor under another name."""
        return self._replace(name=name)


ASKED = (
    Tensor(TEXT, "BYTES", (1,), "product title and description, UTF-8"),
    Tensor(CATEGORY, "BYTES", (1,), "product category, may be empty"),
    Tensor(ATTRIBUTES, "BYTES", ("A",), "attribute names, no duplicates"),
)
"""The inputs of a channel."""

REQUIRED = (
    Tensor(VALUES, "BYTES", ("A",), "decision per attribute; empty without a decision"),
    Tensor(CONFIDENCE, "FP32", ("A",), "in [0, 1]; 0 without a decision"),
    Tensor(MEMBERS, "BYTES", ("N",), "member names, in the order of the tensors of votes below"),
    Tensor(MEMBER_VALUES, "BYTES", ("N", "A"), "each vote after normalisation; empty for an abstention"),
    Tensor(MEMBER_STATUS, "INT32", ("N", "A"), "a Status per vote"),
    Tensor(WEIGHTS_VERSION, "INT64", (1,), "version of quorum_vote that decided"),
)
"""The outputs that no answer may lack."""

SCORES = Tensor(
    MEMBER_SCORES,
    "FP32",
    ("N", "A"),
    "log-probability of each vote's value by its member, nats; NaN where there is none",
)
"""Servers of earlier releases do not send it; a client then reads every vote as one without a score."""

DECIDED = Tensor(DECISION_STATUS, "INT32", ("A",), "a DecisionStatus per attribute")
"""Servers of earlier releases do not send it; their values are empty only when no member answered."""

PRICED = Tensor(
    COST, "FP32", (1,), "what the answer cost, in the currency of the prices; NaN where it is not known"
)
USED = Tensor(
    MEMBER_USAGE,
    "FP32",
    ("N", 6),
    "what each member took: calls, prompt, answer and cached tokens, seconds worked, cost; NaN: not known",
)
"""Servers of earlier releases send neither; a client then knows nothing of cost. Columns may be added."""

ANSWERED = (*REQUIRED, SCORES, DECIDED, PRICED, USED)
"""The outputs of the vote, and of a channel; clients ignore outputs that they do not know."""

SHARE = Tensor(CANARY_SHARE, "FP64", (1,), "share of the products that the canary channel is to answer")
"""Output of the gate, and of every channel, so every answer carries it."""

PACKED_QUESTION = Tensor(QUESTION, "UINT8", ("BYTES",), "ticket and checked question, packed by the gate")
PACKED_CANARY_QUESTION = PACKED_QUESTION.named(CANARY_QUESTION)
"""The same output of the gate by the name that canary channels ask for, by which it knows them."""
PACKED_VOTES = Tensor(VOTES, "UINT8", ("BYTES",), "one member's votes, packed by the member")
PACKED_OPEN = Tensor(OPEN, "UINT8", ("BYTES",), "attributes that a row of members is asked, and its deadline")
"""Optional input of a member. Gate and vote give it under a name with the number of rows left, ``OPEN_2``."""

RECOMMEND_ASKED = (
    Tensor(TEXT, "BYTES", (1,), "text of the item, UTF-8"),
    Tensor(CATEGORY, "BYTES", (1,), "leaf category of the item; empty: keyphrases of all categories"),
    Tensor(LIMIT, "INT32", (1,), "how many keyphrases are wanted, from 1"),
    Tensor(MIN_SCORE, "FP32", (1,), "lowest score of a keyphrase; -1: any"),
)
"""The inputs of a channel that recommends keyphrases."""

RECOMMENDED = (
    Tensor(KEYPHRASES, "BYTES", ("K",), "best first; fewer than asked for where no more are left"),
    Tensor(KEYPHRASE_SCORES, "FP32", ("K",), "cosine of item and keyphrase, in [-1, 1]"),
    Tensor(RETRIEVER_VERSION, "INT64", (1,), "version of quorum_retriever that answered"),
)
"""The outputs of such a channel, with CANARY_SHARE."""

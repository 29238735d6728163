# SPDX-License-Identifier: Apache-2.0
"""Typed, frozen results, and the input of ``extract_many`` and ``recommend_many``; free of gRPC.

``to_dict`` gives plain JSON values without loss, ``from_dict`` takes them back: keys that a later release
adds are ignored, keys that an earlier one lacks have their defaults, and a status that is not known reads as
in an answer of the server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from quorum_contract import NOT_APPLICABLE, RECOMMEND, STABLE, DecisionStatus, Spent, Status
from quorum_contract.usage import add_up


class Span(NamedTuple):
    """A part of the text, and what it is."""

    text: str
    type: str


@dataclass(frozen=True, slots=True)
class Vote:
    """One member's vote on one attribute.

    Attributes:
        member: The member's name.
        value: Its value; ``"n/a"`` is a value (*the text does not say*), ``None`` an abstention.
        status: ``Status.ANSWERED``, or why it abstained. A code unknown to this client (from a newer server)
            reads as ``Status.ERROR``.
        score: Log-probability that the member's LLM gave to the value, in nats, so ``math.exp(score)`` is its
            probability; ``None`` for abstentions, and where the runtime or an older server gives none.
    """

    member: str
    value: str | None
    status: Status
    score: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The vote as plain JSON values; ``status`` by its name."""
        return {"member": self.member, "value": self.value, "status": self.status.name, "score": self.score}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Vote:
        """Inverse of :meth:`to_dict`.

        Raises:
            ValueError: ``data`` is no vote.
        """
        with _reading("vote"):
            status = Status.__members__.get(data["status"], Status.ERROR)
            return cls(data["member"], data["value"], status, data.get("score"))


@dataclass(frozen=True, slots=True)
class Answer:
    """The decision on one attribute.

    Attributes:
        attribute: Its name, as asked.
        value: The decided value; ``"n/a"`` when the text does not say; ``None`` when none was decided.
        confidence: In [0, 1]; 0 when none was decided.
        votes: Every member's vote, in the deployment's order.
        status: ``DecisionStatus.DECIDED``, or why there is no value: ``NO_ANSWER`` of any member, or
            ``NO_QUORUM``, fewer answers than the deployment demands.
    """

    attribute: str
    value: str | None
    confidence: float
    votes: tuple[Vote, ...]
    status: DecisionStatus = DecisionStatus.DECIDED

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain JSON values, with every vote; ``status`` by its name."""
        return {
            "attribute": self.attribute,
            "value": self.value,
            "confidence": self.confidence,
            "status": self.status.name,
            "votes": [vote.to_dict() for vote in self.votes],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Answer:
        """Inverse of :meth:`to_dict`.

        Raises:
            ValueError: ``data`` is no answer.
        """
        with _reading("answer"):
            value = data["value"]
            unknown = DecisionStatus.NO_ANSWER if value is None else DecisionStatus.DECIDED
            status = DecisionStatus.__members__.get(data["status"], unknown)
            votes = tuple(map(Vote.from_dict, data["votes"]))
            return cls(data["attribute"], value, float(data["confidence"]), votes, status)

    @property
    def spans(self) -> tuple[Span, ...]:
        """The value of an attribute of kind ``spans``, in order of appearance; empty when there is none.

        So it is for "n/a", the answer where products of the category do not have the attribute.

        Raises:
            ValueError: The value is not of that kind.
        """
        if self.value is None or self.value == NOT_APPLICABLE:
            return ()
        pairs = _json_list(self.value)
        if pairs is None or not all(map(_is_pair, pairs)):
            raise ValueError(f"{self.attribute}: {self.value!r:.80} has no spans; read it as `value`")
        return tuple(Span(*pair) for pair in pairs)

    @property
    def values(self) -> tuple[str, ...]:
        """All values of an attribute that may have many, or the one value; empty for "n/a" and for none."""
        if self.value is None or self.value == NOT_APPLICABLE:
            return ()
        found = _json_list(self.value)
        if found is None or not all(isinstance(value, str) for value in found):
            return (self.value,)
        return tuple(found)


@contextmanager
def _reading(kind: str) -> Iterator[None]:
    """Turn what plain values raise that are no such result into a ValueError that says so."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"no {kind}: it lacks {error.args[0]!r}; give what its to_dict returned") from error
    except (TypeError, AttributeError) as error:
        raise ValueError(f"no {kind}: {error}; give what its to_dict returned") from error


def _spent(figures: Mapping[str, Any]) -> Spent:
    return Spent(**{name: figures[name] for name in Spent._fields if name in figures})


def _json_list(value: str) -> list[Any] | None:
    """The JSON list that a value is; None for another value."""
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)


@dataclass(frozen=True, slots=True)
class Extraction(Mapping[str, Answer]):
    """The answers for one product, in the order asked; also a mapping from attribute to answer.

    Attributes:
        request_id: Id of the request, for the server's logs and traces.
        answers: One per attribute.
        weights_version: Version of the weights that decided.
        latency_s: Seconds from call to answer at the client, with retries and fall-back.
        channel: The ensemble that answered.
        fallback_from: The canary channel, when the product was routed to it and it could not answer.
        cost: What the answer cost, in the currency of the deployment's prices; None: not known, as members
            without a price were called, or the server is of an earlier release.
        usage: Member -> what its part in the answer took; empty from a server of an earlier release.
    """

    request_id: str
    answers: tuple[Answer, ...]
    weights_version: int
    latency_s: float = field(compare=False)
    channel: str = STABLE
    fallback_from: str | None = None
    cost: float | None = field(default=None, compare=False)
    usage: Mapping[str, Spent] = field(default_factory=dict, compare=False)

    @property
    def spent(self) -> Spent | None:
        """Calls, tokens and seconds of all members together; None from a server of an earlier release."""
        return add_up(self.usage.values())._replace(cost=self.cost) if self.usage else None

    def to_dict(self) -> dict[str, Any]:
        """The extraction as plain JSON values: every vote, status, score and figure, nothing rounded."""
        return {
            "request_id": self.request_id,
            "answers": [answer.to_dict() for answer in self.answers],
            "weights_version": self.weights_version,
            "latency_s": self.latency_s,
            "channel": self.channel,
            "fallback_from": self.fallback_from,
            "cost": self.cost,
            "usage": {member: spent._asdict() for member, spent in self.usage.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Extraction:
        """Inverse of :meth:`to_dict`.

        Raises:
            ValueError: ``data`` is no extraction.
        """
        with _reading("extraction"):
            return cls(
                data["request_id"],
                tuple(map(Answer.from_dict, data["answers"])),
                int(data["weights_version"]),
                float(data["latency_s"]),
                data.get("channel", STABLE),
                data.get("fallback_from"),
                data.get("cost"),
                {member: _spent(figures) for member, figures in data.get("usage", {}).items()},
            )

    def __getitem__(self, attribute: str) -> Answer:
        """The answer for ``attribute``.

        Raises:
            KeyError: It was not asked.
        """
        for answer in self.answers:
            if answer.attribute == attribute:
                return answer
        raise KeyError(attribute)

    def __iter__(self) -> Iterator[str]:
        """The attributes, in the order asked."""
        return (answer.attribute for answer in self.answers)

    def __len__(self) -> int:
        """The number of attributes asked."""
        return len(self.answers)


@dataclass(frozen=True, slots=True)
class Item:
    """One product for ``extract_many``.

    Attributes:
        text: Title and description, or named fields, see :meth:`quorum_client.Client.extract`.
        attributes: Names of the attributes wanted.
        category: Product category; may be empty.
        product_id: Identifier of the product, see :meth:`quorum_client.Client.extract`.
    """

    text: str | Mapping[str, str]
    attributes: Sequence[str]
    category: str = ""
    product_id: str | None = None


class Keyphrase(NamedTuple):
    """A keyphrase for an item.

    Attributes:
        text: The keyphrase.
        score: Cosine of its vector and the item's, in [-1, 1]; no probability.
    """

    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The keyphrases for one item.

    Attributes:
        request_id: Id of the request, for the server's logs and traces.
        keyphrases: The best first; fewer than asked for where no more are left.
        version: Version of the retriever that answered.
        latency_s: Seconds from call to answer at the client, with retries and fall-back.
        channel: The ensemble that answered.
        fallback_from: The canary channel, when the item was routed to it and it could not answer.
    """

    request_id: str
    keyphrases: tuple[Keyphrase, ...]
    version: int
    latency_s: float = field(compare=False)
    channel: str = RECOMMEND
    fallback_from: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The recommendation as plain JSON values, nothing rounded."""
        return {
            "request_id": self.request_id,
            "keyphrases": [keyphrase._asdict() for keyphrase in self.keyphrases],
            "version": self.version,
            "latency_s": self.latency_s,
            "channel": self.channel,
            "fallback_from": self.fallback_from,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recommendation:
        """Inverse of :meth:`to_dict`.

        Raises:
            ValueError: ``data`` is no recommendation.
        """
        with _reading("recommendation"):
            return cls(
                data["request_id"],
                tuple(Keyphrase(found["text"], found["score"]) for found in data["keyphrases"]),
                int(data["version"]),
                float(data["latency_s"]),
                data.get("channel", RECOMMEND),
                data.get("fallback_from"),
            )


@dataclass(frozen=True, slots=True)
class RecommendItem:
    """One item for ``recommend_many``.

    Attributes:
        text: Title and description; at most 32 768 bytes as UTF-8, not only white space.
        category: Its leaf category: only keyphrases of it, or of none, are recommended; "": all.
        k: How many keyphrases are wanted, 1 to 100.
        min_score: The lowest score of one; None: any.
        item_id: Identifier of the item: with ``canary_share`` it decides the channel; the text does when it
            is not given.
    """

    text: str
    category: str = ""
    k: int = 20
    min_score: float | None = None
    item_id: str | None = None

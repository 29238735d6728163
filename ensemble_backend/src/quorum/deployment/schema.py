# SPDX-License-Identifier: Apache-2.0
"""Define the schema of ``deploy.yaml`` and its checks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from quorum.deployment.adapters import check_shared, llm_of, unknown_attributes
from quorum.deployment.attributes import AttributeSpec, DefaultSpec, Normaliser, check_attribute_names
from quorum.deployment.gateway import GatewaySpec
from quorum.deployment.lazy import LazySpec, faults_of_rows
from quorum.deployment.price import WITHOUT_LLM, BudgetSpec, PriceSpec
from quorum.deployment.retriever import RetrieverSpec
from quorum.deployment.server import FleetServer, ServerSpec
from quorum.deployment.strict import Strict, error_at, one_of
from quorum.runtimes.by_adapter import adapters_in_use
from quorum.runtimes.engine_names import ENCODER_PREFIX, PREFIX
from quorum.runtimes.option_base import OptionError, Options
from quorum.runtimes.options import RUNTIMES, read_options
from quorum.serving.admission import CAPACITY
from quorum.serving.copies import COPY, is_copy
from quorum.tasks.catalogue import Catalogue
from quorum_contract import CHANNELS, GATE, LAZY_CHANNELS, RECOMMEND_CHANNELS, RETRIEVER, VOTE, Price
from quorum_contract.usage import FREE

_MEMBER_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_RESERVED = frozenset([*CHANNELS, *LAZY_CHANNELS, GATE, VOTE, RETRIEVER, *RECOMMEND_CHANNELS])
SCHEMA_VERSION: Final = 1
"""Version of ``deploy.yaml``; what a release adds to it does not change the number, what it changes does."""
SHARED_PREFIX = "quorum_shared_"
"""Prefix of Triton models that hold several members; the first member's name follows."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Guard = Literal["overall", "per_attribute"]


def _typed_options(given: object, info: ValidationInfo) -> Options:
    """Parse the options by the member's runtime."""
    if isinstance(given, Options):
        return given
    if not isinstance(given, dict):
        raise PydanticCustomError("mapping", "write a mapping of options to values")
    try:
        # An unknown runtime was refused already.
        return read_options(info.data["runtime"], given) if "runtime" in info.data else Options()
    except OptionError as error:
        raise error_at(error.key, str(error)) from error


MemberOptions = Annotated[Options, PlainValidator(_typed_options), PlainSerializer(msgspec.to_builtins)]


class MemberSpec(Strict):
    """One member: an LLM, an encoder, or what looks answers up.

    Attributes:
        name: Name of its Triton model, and of its column in votes tables.
        runtime: The program that answers for it.
        options: Options of that runtime; defaults are filled in and written out.
        prompt: ``instruct`` for general LLMs, ``bare`` for models fine-tuned on the task.
        timeout_s: The member abstains after this time, or earlier by the request's deadline.
        reserve_ms: Part of the request's deadline reserved for the vote and the response.
        max_in_flight: Questions in flight; the member abstains from more as overloaded.
        price: Of its calls; None: not known, or free for a member without an LLM.
        budget: What it may spend; None: no limit.
    """

    name: str
    runtime: Annotated[str, one_of("runtime", sorted(RUNTIMES))]
    options: MemberOptions = Field(default={}, validate_default=True)
    prompt: Literal["instruct", "bare"] = "instruct"
    timeout_s: Positive = 30.0
    reserve_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 50.0
    max_in_flight: Annotated[int, Field(ge=1)] = 256
    price: PriceSpec | None = None
    budget: BudgetSpec | None = None

    @property
    def priced(self) -> Price | None:
        """The price of its calls; None: not known."""
        if self.price is not None:
            return self.price.price()
        return FREE if self.runtime in WITHOUT_LLM else None

    @field_validator("budget")
    @classmethod
    def _payable(cls, budget: BudgetSpec | None, info: ValidationInfo) -> BudgetSpec | None:
        if budget is not None and budget.is_money and info.data.get("price") is None:
            raise ValueError(
                "per_minute and per_day are money: give the member a `price`, or limit calls_per_minute and "
                "calls_per_day"
            )
        return budget

    @field_validator("name")
    @classmethod
    def _usable(cls, name: str) -> str:
        if not _MEMBER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a Triton model; use a-z, 0-9, '_', '.', '-'")
        if name in _RESERVED or name.startswith((SHARED_PREFIX, PREFIX, ENCODER_PREFIX)):
            raise ValueError(f"{name!r} is one of quorum's own models; choose another name")
        if is_copy(name):
            raise ValueError(
                f"{name!r}: {COPY} ends the names of copies that `quorum apply` makes; rename it"
            )
        return name


class GateSpec(Strict):
    """Limits of the gate.

    Attributes:
        max_in_flight: Requests inside; more are refused as overloaded.
        max_bulk_in_flight: Bulk is admitted only while fewer requests of any kind are inside.
        timeout_s: Time of a request that brings no deadline.
        max_timeout_s: Longest time of a request.
        allow_direct: Whether members answer callers who go around the gate.
    """

    max_in_flight: Annotated[int, Field(ge=1, le=CAPACITY)] = 256
    max_bulk_in_flight: Annotated[int, Field(ge=1, le=CAPACITY)] = 16
    timeout_s: Positive = 30.0
    max_timeout_s: Positive = 120.0
    allow_direct: bool = False


class VoteSpec(Strict):
    """Quorum of the vote: how many members must answer, and how long it waits for the rest.

    Attributes:
        min_members: Members that must have answered an attribute, "n/a" included; else its value is withheld.
        min_weight: Share in [0, 1] of the weight of all members that those must have.
        grace_ms: Once ``min_members`` have answered all attributes of a question, the others get this much
            more time, in milliseconds, at most until their deadline; None: until their deadline.
    """

    min_members: Annotated[int, Field(ge=1)] = 1
    min_weight: Annotated[float, Field(ge=0, le=1)] = 0.0
    grace_ms: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None


class CanarySpec(Strict):
    """Rules for promoting and for rolling back a canary.

    Attributes:
        min_products: Products needed for a decision; with gold where the gold decides.
        max_worse: How much less accurate than stable it may be, as a share in [0, 1].
        max_latency_ratio: Highest ratio of its median latency to stable's.
        max_failed: Share of its products that it alone may fail on.
        confidence: Of the intervals. Each report is a separate test: for daily reports choose 0.99.
    """

    min_products: Annotated[int, Field(ge=2)] = 200
    max_worse: Annotated[float, Field(ge=0, le=1)] = 0.01
    max_latency_ratio: Positive = 1.25
    max_failed: Annotated[float, Field(ge=0, le=1)] = 0.01
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95


class RolloutSpec(Strict):
    """Checks of new weights, and the number of loaded versions.

    Attributes:
        heldout: A votes table with gold that no weights are learned from; without it nothing is compared.
        margin: How much worse than the running weights new ones may be there, as a share in [0, 1].
        guard: What must not be worse by more than the margin: the answers to all attributes together
            (``overall``), or also those to any one attribute (``per_attribute``). Either way attributes that
            are worse are named and stop the automatic promotion of a canary; ``per_attribute`` refuses to
            publish, and ends a canary, too.
        keep_versions: How many versions stay loaded, each in its own process. A publish unloads the oldest
            beyond that; never one that a channel is pinned to, nor the rollback target.
        canary: Rules of ``quorum canary report --auto-promote --auto-rollback``.
    """

    heldout: str | None = None
    margin: Annotated[float, Field(ge=0, le=1)] = 0.01
    guard: Guard = "overall"
    keep_versions: Annotated[int, Field(ge=2)] = 5
    canary: CanarySpec = CanarySpec()

    @field_validator("guard")
    @classmethod
    def _can_guard(cls, guard: Guard, info: ValidationInfo) -> Guard:
        if guard == "per_attribute" and info.data.get("heldout") is None:
            raise ValueError(
                "per_attribute compares attributes on held-out votes; name a votes table in rollout.heldout"
            )
        return guard


class Deployment(Strict):
    """The whole ``deploy.yaml``.

    Attributes:
        schema_version: Of the file; files of 0.1 may leave it out.
        attributes: The catalogue, by attribute name.
        default_normaliser: For attributes outside the catalogue, which are open.
        default: What attributes outside the catalogue are asked instead, such as keyphrases; None: nothing.
        members: Who votes, in the order in which answers list them.
        currency: Of all prices, as it is shown to people, such as EUR.
        gate: Limits of what is let in.
        vote: How many members must answer, and how long the vote waits.
        rollout: Checks of new weights and of canaries.
        lazy: How the channels that ask members in rows do so; None: there are none.
        retriever: How keyphrases are recommended; None: with the defaults, once a version is published.
        fleet: Servers that rollouts go to; empty: the server that this file starts.
        server: Addresses and settings of that server.
        gateway: What callers who are not trusted can reach; None: nothing but the server's own ports.
        repository: The model repository, relative to the file.
        path: The file itself.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    attributes: dict[str, AttributeSpec]
    default_normaliser: Normaliser = "text"
    default: DefaultSpec | None = None
    members: Annotated[list[MemberSpec], Field(min_length=1)]
    currency: Annotated[str, Field(max_length=16)] = ""
    gate: GateSpec = GateSpec()
    vote: VoteSpec = VoteSpec()
    rollout: RolloutSpec = RolloutSpec()
    lazy: LazySpec | None = None
    retriever: RetrieverSpec | None = None
    fleet: list[FleetServer] = Field(default_factory=list)
    server: ServerSpec = ServerSpec()
    gateway: GatewaySpec | None = None
    repository: str = "model_repository"
    path: Path = Field(exclude=True)

    @field_validator("attributes")
    @classmethod
    def _nameable(cls, attributes: dict[str, AttributeSpec]) -> dict[str, AttributeSpec]:
        check_attribute_names(attributes)
        return attributes

    @field_validator("default")
    @classmethod
    def _alone(cls, default: DefaultSpec | None, info: ValidationInfo) -> DefaultSpec | None:
        if (
            default is not None
            and info.data.get("default_normaliser") != cls.model_fields["default_normaliser"].default
        ):
            raise error_at(
                "normaliser", "write `default_normaliser` here, as `normaliser`, and remove it there"
            )
        return default

    @model_validator(mode="after")
    def _distinct(self) -> Deployment:
        names = [member.name for member in self.members]
        duplicates = sorted({name for name in names if names.count(name) > 1})
        if duplicates:
            raise ValueError(f"two members are called {duplicates[0]!r}; names must differ")
        for members in self.models().values():
            check_shared(members[0].runtime, {member.name: member.options for member in members})
        return self

    @field_validator("members")
    @classmethod
    def _adapted(cls, members: list[MemberSpec], info: ValidationInfo) -> list[MemberSpec]:
        # Faulty attributes are refused for what is wrong with them.
        if "attributes" in info.data:
            for number, member in enumerate(members):
                for name, problem in unknown_attributes(member.options, info.data["attributes"]):
                    raise error_at((number, "options", "adapters", name), problem)
        return members

    @field_validator("fleet")
    @classmethod
    def _listed_once(cls, fleet: list[FleetServer]) -> list[FleetServer]:
        addresses = [server.grpc for server in fleet]
        for number, address in enumerate(addresses):
            if (first := addresses.index(address)) != number:
                raise error_at(
                    (number, "grpc"), f"{address} is fleet[{first}] already; name each server once"
                )
        return fleet

    @field_validator("gateway")
    @classmethod
    def _ports_of_its_own(cls, gateway: GatewaySpec | None, info: ValidationInfo) -> GatewaySpec | None:
        server = info.data.get("server")
        if gateway is not None and server is not None:
            taken = {port: key for key, port in server.ports.items() if port}
            for key, port in gateway.ports.items():
                if port in taken:
                    raise error_at(
                        key, f"{port} is server.{taken[port]} already; choose another, or 0 for a free one"
                    )
        return gateway

    @field_validator("vote")
    @classmethod
    def _reachable(cls, vote: VoteSpec, info: ValidationInfo) -> VoteSpec:
        count = len(info.data.get("members", ()))
        # Faulty members are refused for what is wrong with them.
        if count and vote.min_members > count:
            raise error_at(
                "min_members",
                f"{vote.min_members} members can never answer, there are {count}; write 1 to {count}",
            )
        return vote

    @field_validator("lazy")
    @classmethod
    def _in_rows(cls, lazy: LazySpec | None, info: ValidationInfo) -> LazySpec | None:
        members = info.data.get("members")
        if lazy is not None and lazy.rows is not None and members:
            names = [member.name for member in members]
            shared = [[member.name for member in group] for group in _models(members).values()]
            for place, problem in faults_of_rows(lazy.rows, names, shared):
                raise error_at(place, problem)
        return lazy

    def engines(self) -> dict[str, MemberSpec]:
        """Triton model that serves a compiled engine -> the member that asks it."""
        return {f"{PREFIX}{m.name}": m for m in self.members if m.runtime == "engine"}

    def models(self) -> dict[str, list[MemberSpec]]:
        """Triton model -> its members: one, or all that share an LLM in memory."""
        return _models(self.members)

    @property
    def channels(self) -> tuple[str, ...]:
        """The ensembles that answer for attributes, as callers name them."""
        return CHANNELS if self.lazy is None else (*CHANNELS, *LAZY_CHANNELS)

    def adapters(self) -> dict[str, dict[str, str]]:
        """Member -> attribute, or "*" for all others -> folder of the adapter; only members with adapters."""
        used = {member.name: adapters_in_use(member.options) for member in self.members}
        return {name: adapters for name, adapters in used.items() if adapters}

    @property
    def root(self) -> Path:
        """The folder of ``deploy.yaml``; relative paths start here."""
        return self.path.resolve().parent

    @property
    def repository_path(self) -> Path:
        """The model repository."""
        return self.root / self.repository

    @property
    def member_names(self) -> list[str]:
        """Names of the members, in voting order."""
        return [member.name for member in self.members]

    @property
    def prices(self) -> dict[str, Price | None]:
        """Member -> price of its calls; None: not known."""
        return {member.name: member.priced for member in self.members}

    def catalogue(self) -> Catalogue:
        """The attribute catalogue in the form that the serving code uses."""
        attributes = [spec.named(name) for name, spec in self.attributes.items()]
        default = self.default.made() if self.default else None
        return Catalogue.of(attributes, self.default_normaliser, default)


def _models(members: Sequence[MemberSpec]) -> dict[str, list[MemberSpec]]:
    groups: dict[tuple[object, ...], list[MemberSpec]] = {}
    for member in members:
        groups.setdefault(llm_of(member.runtime, member.name, member.options), []).append(member)
    return {
        f"{SHARED_PREFIX}{group[0].name}" if len(group) > 1 else group[0].name: group
        for group in groups.values()
    }

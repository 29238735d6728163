# SPDX-License-Identifier: Apache-2.0
"""Define the options of runtimes that look answers up: in recorded votes, and in filled products."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from quorum.runtimes.option_base import Existing, Gib, Hint, OptionError, Options

Share = Annotated[float, msgspec.Meta(ge=0, le=1), Hint("a share", "it lies between 0 and 1")]
Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1), Hint("a whole number of 64 bits")]
Tokens = Annotated[int, msgspec.Meta(ge=0, le=1 << 24), Hint("a number of tokens", "it is not negative")]
FAULTS = ("raise", "hang", "block", "slow", "garbage", "memory", "exit")
"""What the file in the option ``faults`` of ``replay`` may name."""


class ReplayOptions(Options, frozen=True, kw_only=True):
    """Options of the runtime ``replay``.

    Attributes:
        votes: Path of a votes table.
        recorded_as: Column to answer from; None: the member's name.
        latency_ms: Mean think time.
        latency_shape: Its distribution.
        fail_share: Share of questions, in [0, 1], that raise.
        hang_share: Share of questions, in [0, 1], that time out.
        seed: Of the draws.
        scores: Whether votes come with the scores that were recorded.
        prompt_tokens: Tokens of a prompt, as answers state them; None: as recorded, if they are.
        answer_tokens: Tokens of an answer, likewise.
        isolated: Whether it runs in a worker process, as an LLM does.
        memory_limit_gib: As in :class:`IsolatedOptions`, for an isolated one.
        faults: Fault injection, for rehearsals and tests only: path of a file that is read at each question
            and names what goes wrong now, by one word of :data:`FAULTS`; missing or empty: nothing does.
            ``raise``: the question fails. ``hang``: it is never answered. ``block``: the call never returns,
            and no later question is taken. ``slow``: it is answered two seconds late. ``garbage``: the text
            is nonsense. ``memory``: memory is taken until the process is ended, which needs
            ``memory_limit_gib``. ``exit``: the process ends at once. Only an isolated replay takes faults: in
            a step they would end the server.
    """

    runtime: ClassVar[str] = "replay"
    served_by: ClassVar[str] = "quorum.runtimes.replay:ReplayRuntime"

    votes: Annotated[str, Existing(fix="record one with `quorum extract FILE --votes`")]
    recorded_as: str | None = None
    latency_ms: Annotated[
        float,
        msgspec.Meta(ge=0, le=86_400_000),
        Hint("a number of milliseconds", "it lies between 0 and a day"),
    ] = 0.0
    latency_shape: Literal["exponential", "constant"] = "exponential"
    fail_share: Share = 0.0
    hang_share: Share = 0.0
    seed: Int64 = 0
    scores: bool = True
    prompt_tokens: Tokens | None = None
    answer_tokens: Tokens | None = None
    isolated: bool = False
    memory_limit_gib: Gib | None = None
    faults: Annotated[str | None, Hint("a path", "the file need not exist")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.isolated:
            for key in ("memory_limit_gib", "faults"):
                if getattr(self, key) is not None:
                    raise OptionError(key, "it needs a worker process; set `isolated: true` as well")


class CatalogueOptions(Options, frozen=True, kw_only=True):
    """Options of the runtime ``catalogue``.

    Attributes:
        products: Path of the products that are filled in.
        min_precision: Values of a lower precision are not proposed.
        scores: Whether votes come with the logarithm of the precision.
    """

    runtime: ClassVar[str] = "catalogue"
    served_by: ClassVar[str] = "quorum.runtimes.catalogue:CatalogueRuntime"

    products: Annotated[
        str, Existing(fix='write one product a line: {"text": ..., "attributes": {name: value}}')
    ]
    min_precision: Share = 0.3
    scores: bool = True

# SPDX-License-Identifier: Apache-2.0
"""Options of a run over listings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from quorum.bulk.inputs.options import PART_ROWS, InputOptions
from quorum_contract import BULK, CHANNELS, LAZY_CHANNELS, LAZY_OF, STABLE, Priority
from quorum_contract.errors import InvalidRequest

IN_FLIGHT = 16
"""Requests in flight where "auto" cannot search: of some listings, or of one member."""
PATIENCE_S = 600.0
MAX_BAD = "1%"
"""Rows that may be bad unless others are given. A share is rounded up, so that one always may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractOptions:
    """Options of :func:`quorum.extract`.

    Attributes:
        out: File (CSV, JSONL or Parquet, perhaps compressed) or folder for the answers; also an address such
            as ``s3://``.
        votes: Votes table for every vote; one of the two is needed.
        job: Local folder that keeps what is done; None: next to ``out``, else ``votes``, with ".job" added.
        attributes: Attributes to ask for; None: the whole catalogue.
        open: Ask attributes outside the catalogue too, as open ones; without it they are refused.
        text: Columns of the text, joined; None: title, text, input or name.
        id: Column with the product's id; None: the first of :data:`quorum.bulk.listings.ID_COLUMNS` that a
            row fills, else the row number.
        category: Column with the product's category; None: "category", where there is one.
        inputs: How the files are read, where it is not detected.
        part_rows: Rows of a part, that is committed as a whole.
        max_bad: Rows that may be bad before the run ends: a number, or a share of all as in "1%".
        channel: Ensemble to ask.
        canary_share: Share of the products to route to the canary, in [0, 1]; "served": the share that the
            server announces; None: none is routed.
        concurrency: Requests in flight; "auto": as many as the server answers best.
        url: ``host:port`` of the server, or of several with commas; None: the local server, else the one that
            ``deploy.yaml`` names.
        engine: "local": this process asks; "ray": the nodes of a Ray cluster do, each with a client of its
            own and as many requests in flight as ``concurrency`` says.
        ray_address: Of the cluster; None: the one that ``RAY_ADDRESS`` names, else a new one on this machine.
        timeout_s: Seconds per listing.
        patience_s: How long the run waits for a server that is away, full or starting, in seconds, before it
            ends so that the same call goes on.
        only: Members to ask, and no others, on a server of their own; their votes go into the existing table
            ``votes``. Listings on which it has their votes are not asked again. None: all members, of the
            running server.
        priority: "bulk": the server admits listings while it has little else to do; "interactive": as
            requests of people who wait.
        lazy: Ask members in rows, see :meth:`quorum_client.Client.extract`.
        retry_failed: Ask the rows of the job that failed, or that no member answered, once more.
        accept_new_weights: Go on where other weights decide than before; each row has its version.
        force: Replace files at ``out`` and ``votes`` that are not of this job; folders are never replaced.
        escaped: Make CSV cells harmless, see :func:`quorum.safe_text.safe_cell`. False: cells as they are,
            for machines.
    """

    out: str | Path | None = None
    votes: str | Path | None = None
    job: str | Path | None = None
    attributes: Sequence[str] | None = None
    open: bool = False
    text: Sequence[str] | None = None
    id: str | None = None
    category: str | None = None
    inputs: InputOptions = field(default_factory=InputOptions)
    part_rows: int = PART_ROWS
    max_bad: int | str = MAX_BAD
    channel: str = STABLE
    canary_share: float | Literal["served"] | None = None
    concurrency: int | Literal["auto"] = "auto"
    url: str | None = None
    engine: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    timeout_s: float = 60.0
    patience_s: float = PATIENCE_S
    only: Sequence[str] | None = None
    priority: Priority = BULK
    lazy: bool = False
    retry_failed: bool = False
    accept_new_weights: bool = False
    force: bool = False
    escaped: bool = True

    def check(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            InvalidRequest: Names the setting.
        """
        if self.channel not in (known := (*CHANNELS, *LAZY_CHANNELS)):
            raise InvalidRequest(f"channel: {self.channel!r} is none of {', '.join(known)}; name one of them")
        if self.concurrency != "auto" and self.concurrency < 1:
            raise InvalidRequest(f"concurrency: {self.concurrency!r}; give a whole number above 0, or 'auto'")
        if not self.patience_s >= 0:
            raise InvalidRequest(f"patience_s: {self.patience_s!r}; give seconds, 0 or more")
        if self.part_rows < 1:
            raise InvalidRequest(f"part_rows: {self.part_rows!r}; give a whole number above 0")
        if self.ray_address is not None and self.engine != "ray":
            raise InvalidRequest(f"ray_address: {self.ray_address!r} needs engine 'ray'")
        self.bad_allowed(0)

    def bad_allowed(self, rows: int) -> int:
        """How many of so many rows may be bad; raises InvalidRequest where ``max_bad`` does not say it."""
        given = str(self.max_bad).strip()
        try:
            number = float(given.removesuffix("%"))
        except ValueError:
            number = -1.0
        is_share = given.endswith("%")
        if not 0 <= number <= (100 if is_share else math.inf) or (not is_share and number % 1):
            raise InvalidRequest(
                f"--max-bad (max_bad) {given!r}: give a number of rows, or a share of all as in 1%"
            )
        return math.ceil(number / 100 * rows) if is_share else int(number)

    @property
    def asked_channel(self) -> str:
        """The channel that a run asks: with ``lazy`` the lazy one of the one named."""
        return LAZY_OF.get(self.channel, self.channel) if self.lazy else self.channel

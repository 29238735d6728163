# SPDX-License-Identifier: Apache-2.0
"""Decide who is asking, whether it may, and whether its quotas allow one more request."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from quorum.gateway.keys import Caller, Keys, Role
from quorum.serving.budget import CALLERS, Budget, Hold
from quorum_client.errors import PermissionDenied, QuotaSpent, Unauthenticated, Unavailable
from quorum_contract.key import KEY_HEADER, key_value

logger = logging.getLogger(__name__)

_Found = TypeVar("_Found")
_BEARER = key_value("")
# Another gateway holds the lock of a count for microseconds, unless it is stopped.
_LOCK_WAIT_S, _LOCK_PAUSE_S = 0.1, 0.002
_COUNT_PAUSES_S = (0.005, 0.05, 0.5, 1.0, 2.0, 5.0)
_CLOSING_S = 1.0


class Callers:
    """The callers of a gateway and what they have spent, in files that other gateways of this machine share.

    Args:
        keys: Who they are.
        root: The folder of ``deploy.yaml``; counts are next to it, in ``.quorum/quotas``.
    """

    def __init__(self, keys: Keys, root: Path) -> None:
        self._keys, self._root = keys, root
        # Of the callers of this version of the keys, by their limits.
        self._budgets: dict[str, tuple[Caller, Budget]] = {}
        self._version = keys.version
        self._counting: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Count what could not be counted yet; what still cannot is logged."""
        if self._counting:
            await asyncio.wait(self._counting, timeout=_CLOSING_S)
        for task in self._counting:
            task.cancel()
        await asyncio.gather(*self._counting, return_exceptions=True)

    def identify(self, authorization: str | bytes | None) -> Caller:
        """The caller of a request, by the value of its header ``authorization``.

        Raises:
            Unauthenticated: It has none, or no caller has that key.
        """
        sent = authorization.decode("latin-1") if isinstance(authorization, bytes) else authorization or ""
        scheme, key = sent[: len(_BEARER)], sent[len(_BEARER) :]
        # The names of schemes have no case.
        caller = self._keys.caller(key) if scheme.casefold() == _BEARER.casefold() else None
        if caller is None:
            raise Unauthenticated(f"wrong or missing key; send it as `{KEY_HEADER}: {key_value('KEY')}`")
        return caller

    def check_role(self, caller: Caller, role: Role) -> None:
        """Raise PermissionDenied unless the caller may do that; health and metadata are for all."""
        if role != "read" and role not in caller.roles:
            raise PermissionDenied(
                f"caller {caller.name!r} may not {role}; the gateway's operator adds the role {role!r}"
            )

    async def begin(self, caller: Caller) -> Admitted:
        """Count one more request of a caller, whose cost is counted when the block of it ends.

        Raises:
            QuotaSpent: Its minute or day has no more requests, or no more money.
            Unavailable: The counts cannot be read or written.
        """
        self._forget()
        if not any(caller.limits.values()):
            return Admitted(caller)
        try:
            budget = self._budget(caller)
            hold = await _once_free(budget.take)
            seconds = 0.0 if hold else await _once_free(budget.renews_in_s)
        except OSError as error:
            raise Unavailable(
                f"the quota of caller {caller.name!r} cannot be counted now: {error}"
            ) from error
        if hold is None:
            raise QuotaSpent(
                f"the quota of caller {caller.name!r} is spent ({budget.spent_limits}); it is renewed in "
                f"{math.ceil(seconds)} s",
                retry_after_s=seconds,
            )
        return Admitted(caller, lambda calls, cost: self._count(caller, budget, hold, calls, cost))

    def _forget(self) -> None:
        """Let go of the budgets of callers who are gone or have other limits; their files close with them."""
        if self._version != self._keys.version:
            self._version = self._keys.version
            limits = {caller.name: caller.limits for caller in self._keys.callers()}
            self._budgets = {
                name: known for name, known in self._budgets.items() if limits.get(name) == known[0].limits
            }

    def _budget(self, caller: Caller) -> Budget:
        """The budget of a caller, made again when its limits changed."""
        known = self._budgets.get(caller.name)
        if known is None or known[0].limits != caller.limits:
            known = caller, Budget(caller.name, caller.limits, None, self._root, CALLERS, waits=False)
            self._budgets[caller.name] = known
        return known[1]

    def _count(self, caller: Caller, budget: Budget, hold: Hold, calls: int, cost: float | None) -> None:
        """Count now or, where that cannot be, in a moment: the caller need not wait for it."""
        try:
            budget.count(hold, calls, cost)
        except OSError:
            task = asyncio.ensure_future(_count_later(caller, budget, hold, calls, cost))
            self._counting.add(task)
            task.add_done_callback(self._counting.discard)


async def _once_free(act: Callable[[], _Found]) -> _Found:
    """Do something that raises TimeoutError while another process counts; other calls go on meanwhile."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _LOCK_WAIT_S
    while True:
        try:
            return act()
        except TimeoutError:
            if loop.time() > end:
                raise
        await asyncio.sleep(_LOCK_PAUSE_S)


async def _count_later(caller: Caller, budget: Budget, hold: Hold, calls: int, cost: float | None) -> None:
    why: object = "the gateway has ended"
    try:
        for pause_s in _COUNT_PAUSES_S:
            await asyncio.sleep(pause_s)
            try:
                return budget.count(hold, calls, cost)
            except OSError as error:
                why = error
    except asyncio.CancelledError:
        pass
    spent = "an answer" if calls else "that a request was not asked"
    price = "" if cost is None or not calls else f" of cost {cost:g}"
    logger.error("the quota of caller %r lacks %s%s: %s", caller.name, spent, price, why)
    return None


class Admitted:
    """A request that a caller's quotas allow; use it with ``with``, which counts at the end what it took.

    Attributes:
        caller: Who asks.
        cost: What the answer cost, from its tensor ``COST``; None: not known, and what its requests cost
            lately is counted.
        asked: False: no member was asked, as the server was away or refused; the request is not counted.
    """

    def __init__(self, caller: Caller, count: Callable[[int, float | None], None] | None = None) -> None:
        self.caller = caller
        self.cost: float | None = None
        self.asked = True
        self._count = count

    @property
    def is_priced(self) -> bool:
        """Whether the answer's cost counts."""
        return self.caller.cost_per_day is not None

    def __enter__(self) -> Admitted:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._count is None or (self.asked and not self.is_priced):
            # One that was asked was counted at the begin.
            return
        cost = self.cost if self.asked else 0.0
        cost = None if cost is None or not math.isfinite(cost) else max(0.0, cost)
        self._count(int(self.asked), cost)

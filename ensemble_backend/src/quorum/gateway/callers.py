# SPDX-License-Identifier: Apache-2.0
"""Decide who is asking, whether it may, and whether its quotas allow one more request."""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from quorum.gateway.keys import Caller, Keys, Role
from quorum.serving.budget import CALLERS, Budget, Hold
from quorum_client.errors import PermissionDenied, QuotaSpent, Unauthenticated, Unavailable
from quorum_contract.key import KEY_HEADER, key_value

logger = logging.getLogger(__name__)

_BEARER = key_value("")


class Callers:
    """The callers of a gateway and what they have spent, in files that other gateways of this machine share.

    Args:
        keys: Who they are.
        root: The folder of ``deploy.yaml``; counts are next to it, in ``.quorum/quotas``.
    """

    def __init__(self, keys: Keys, root: Path) -> None:
        self._keys, self._root = keys, root
        self._budgets: dict[str, tuple[Caller, Budget]] = {}

    def identify(self, authorization: str | bytes | None) -> Caller:
        """The caller of a request, by the value of its header ``authorization``.

        Raises:
            Unauthenticated: It has none, or no caller has that key.
        """
        sent = authorization.decode("latin-1") if isinstance(authorization, bytes) else authorization or ""
        caller = self._keys.caller(sent.removeprefix(_BEARER)) if sent.startswith(_BEARER) else None
        if caller is None:
            raise Unauthenticated(f"wrong or missing key; send it as `{KEY_HEADER}: {key_value('KEY')}`")
        return caller

    def check_role(self, caller: Caller, role: Role) -> None:
        """Raise PermissionDenied unless the caller may do that; health and metadata are for all."""
        if role != "read" and role not in caller.roles:
            raise PermissionDenied(
                f"caller {caller.name!r} may not {role}; the gateway's operator adds the role {role!r}"
            )

    def begin(self, caller: Caller) -> Admitted:
        """Count one more request of a caller, whose cost is counted when the block of it ends.

        Raises:
            QuotaSpent: Its minute or day has no more requests, or no more money.
            Unavailable: The counts cannot be read or written.
        """
        if not any(caller.limits.values()):
            return Admitted(caller, None, None)
        try:
            budget = self._budget(caller)
            hold = budget.take()
            seconds = 0.0 if hold else budget.renews_in_s()
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
        return Admitted(caller, budget, hold)

    def admit(self, authorization: str | bytes | None, role: Role) -> Admitted:
        """Identify the caller, check its role and count the request: all of the above."""
        caller = self.identify(authorization)
        self.check_role(caller, role)
        return self.begin(caller)

    def _budget(self, caller: Caller) -> Budget:
        """The budget of a caller, made again when its limits changed."""
        known = self._budgets.get(caller.name)
        if known is None or known[0].limits != caller.limits:
            known = caller, Budget(caller.name, caller.limits, None, self._root, CALLERS)
            self._budgets[caller.name] = known
        return known[1]


class Admitted:
    """A request that a caller's quotas allow; use it with ``with``, which counts at the end what it took.

    Attributes:
        caller: Who asks.
        cost: What the answer cost, from its tensor ``COST``; None: not known, and what its requests cost
            lately is counted.
        asked: False: no member was asked, as the server was away or refused; the request is not counted.
    """

    def __init__(self, caller: Caller, budget: Budget | None, hold: Hold | None) -> None:
        self.caller = caller
        self.cost: float | None = None
        self.asked = True
        self._budget, self._hold = budget, hold

    @property
    def is_priced(self) -> bool:
        """Whether the answer's cost counts."""
        return self.caller.cost_per_day is not None

    def __enter__(self) -> Admitted:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._budget is None or self._hold is None or (self.asked and not self.is_priced):
            # One that was asked was counted at the begin.
            return
        cost = self.cost if self.asked else 0.0
        cost = None if cost is None or not math.isfinite(cost) else max(0.0, cost)
        with suppress(OSError):
            self._budget.count(self._hold, int(self.asked), cost)

# SPDX-License-Identifier: Apache-2.0
"""Read how long a server wants to be left alone."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_LONGEST_S = 3600.0
_NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,9})?")


def retry_after_s(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds until a server wants to be asked again; None if it does not say, or says nonsense.

    Args:
        headers: Of its answer, by names in lower case: ``retry-after-ms`` (milliseconds, which some
            providers send), else ``Retry-After`` (seconds, or a date: RFC 9110, 10.2.3).
        now: Seconds since the epoch, which a date is compared with; None: the clock.
    """
    given = headers.get("retry-after-ms", "").strip()
    if _NUMBER.fullmatch(given):
        return _bounded(float(given) / 1000)
    given = headers.get("retry-after", "").strip()
    if _NUMBER.fullmatch(given):
        return _bounded(float(given))
    if not given or len(given) > 64:
        return None
    try:
        at = parsedate_to_datetime(given).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return _bounded(at - (time.time() if now is None else now))


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), _LONGEST_S)

# SPDX-License-Identifier: Apache-2.0
"""Keep what libraries announce to their developers off the terminal."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_announcements() -> Iterator[None]:
    """Ignore warnings of changes in later versions of the libraries, which users can do nothing about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield

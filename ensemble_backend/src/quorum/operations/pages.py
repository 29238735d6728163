# SPDX-License-Identifier: Apache-2.0
"""Where a command writes its HTML report."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def page_path(report: str | Path | None) -> Path | None:
    """The file to write a report to, checked before minutes of work; None without one.

    Raises:
        OSError: It is a folder, or its folder does not exist.
    """
    if report is None:
        return None
    page = Path(report)
    if page.is_dir() or not page.parent.is_dir():
        code = errno.EISDIR if page.is_dir() else errno.ENOENT
        raise OSError(code, os.strerror(code), str(page))
    return page

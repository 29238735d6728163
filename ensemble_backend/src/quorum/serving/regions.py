# SPDX-License-Identifier: Apache-2.0
"""Close a step's regions of shared memory, which hold texts of products, to other users."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from quorum.serving.shared_file import SHARED_MEMORY

logger = logging.getLogger(__name__)
_PRIVATE = 0o600
_MAPS = Path("/proc/self/maps")


def mapped_regions(maps: Path = _MAPS, folder: Path = SHARED_MEMORY) -> list[Path]:
    """The files of shared memory that a process has mapped; parameters as in :func:`make_private`."""
    pattern = rf" ({re.escape(str(folder))}/\S+)$"
    found = re.findall(pattern, maps.read_text("utf-8", "replace"), re.MULTILINE)
    return sorted({Path(name) for name in found})


def make_private(maps: Path = _MAPS, folder: Path = SHARED_MEMORY) -> None:
    """Let only their owner open the regions that this process has mapped.

    Triton sets the permissions of its regions to 0644 whatever the umask is. A step calls this while it
    loads, when no request has reached its regions.

    Args:
        maps: The process's mappings, as in proc(5).
        folder: Where shared memory has its files.
    """
    for region in mapped_regions(maps, folder):
        try:
            region.chmod(_PRIVATE)
        except OSError as error:
            logger.warning("shared memory %s may be readable by other users: %s", region, error)

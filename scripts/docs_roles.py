# SPDX-License-Identifier: Apache-2.0
"""Read docstrings for the documentation site: references in them, such as to a class, become code."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":[a-z]+:`~?([^`]*)`")


class Roles(griffe.Extension):
    """Rewrites docstrings as Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring:
            obj.docstring.value = ROLE.sub(
                lambda role: f"`{role[1].rpartition('.')[2]}`", obj.docstring.value
            )

# SPDX-License-Identifier: Apache-2.0
"""Define the section ``lazy`` of ``deploy.yaml``: channels that ask members in rows, while a vote is open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import Field, field_validator

from quorum.deployment.strict import Strict, error_at

Place = tuple[str | int, ...]


class LazySpec(Strict):
    """The channels ``quorum_lazy`` and ``quorum_lazy_canary``.

    Attributes:
        rows: Members of each row, in the order of asking; None: by weight per cost of the channel's weights.
        whole_questions: Whether members of later rows are asked all attributes while any is open: an LLM then
            answers word for word as in the other channels, and only whole calls are spared. False: the open
            ones alone, which also spares tokens; an LLM answers another prompt, and a little otherwise.
        flip_risk: Highest share of answers that may differ from those of all members; 0: none does.
    """

    rows: Annotated[list[Annotated[list[str], Field(min_length=1)]], Field(min_length=1)] | None = None
    whole_questions: bool = True
    flip_risk: Annotated[float, Field(ge=0, lt=0.5)] = 0.0

    @field_validator("rows")
    @classmethod
    def _once(cls, rows: list[list[str]] | None) -> list[list[str]] | None:
        seen: set[str] = set()
        for row, names in enumerate(rows or ()):
            for at, name in enumerate(names):
                if name in seen:
                    raise error_at((row, at), f"{name!r} stands in the rows twice; name each member once")
                seen.add(name)
        return rows


def faults_of_rows(
    rows: Sequence[Sequence[str]], members: Sequence[str], shared: Iterable[Sequence[str]]
) -> Iterable[tuple[Place, str]]:
    """Yield the place in ``lazy`` and the problem of rows that a deployment cannot have.

    Args:
        rows: Names, each at most once.
        members: Names of the members.
        shared: Names of members that are one Triton model, for each of these.
    """
    row_of = {name: row for row, names in enumerate(rows) for name in names}
    for row, names in enumerate(rows):
        for at, name in enumerate(names):
            if name not in members:
                yield ("rows", row, at), f"there is no member {name!r}; they are {', '.join(members)}"
    if missing := [name for name in members if name not in row_of]:
        yield ("rows",), f"{', '.join(missing)} must stand in a row too; a row may hold several members"
        return
    for first, *others in shared:
        for name in others:
            if row_of[name] != row_of[first]:
                place = ("rows", row_of[name], list(rows[row_of[name]]).index(name))
                yield place, f"{name!r} and {first!r} share an LLM, so they must stand in the same row"

# SPDX-License-Identifier: Apache-2.0
"""Compare the catalogue that weights were learned with, attribute by attribute, with a deployment's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

OUTSIDE = ""
"""Key of the hash of all attributes that a catalogue does not list."""
_NAMED = 5


@dataclass(frozen=True, slots=True)
class CatalogueChange:
    """Attributes whose answers mean something else than when weights were learned.

    Attributes:
        added: Attributes that are new, and have no parameters of their own.
        changed: Attributes with other values, synonyms or another normaliser; ``OUTSIDE`` for all that the
            catalogue does not list.
        removed: Attributes that the catalogue no longer lists.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def to_json(self) -> dict[str, list[str]]:
        """Plain JSON values."""
        return {name: list(getattr(self, name)) for name in ("added", "changed", "removed")}

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return bool(self.added or self.changed or self.removed)

    def __str__(self) -> str:
        """One sentence for people; empty where nothing changed."""
        parts = []
        if self.changed:
            parts.append(f"{named(self.changed)} changed")
        if self.added:
            parts.append(f"{named(self.added)} {_verb(self.added, 'is', 'are')} new")
        since = "in the catalogue since these weights were learned"
        if not parts:
            return f"{named(self.removed)} left the catalogue since these weights were learned" * bool(self)
        use = _verb((*self.changed, *self.added), "it uses", "they use")
        gone = f"; {named(self.removed)} left it" if self.removed else ""
        return f"{' and '.join(parts)} {since}: {use} the weights of all attributes{gone}"


UNCHANGED = CatalogueChange()


def is_stale(name: str, learned: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether answers for an attribute mean something else; both map attribute -> hash."""
    return learned.get(name, learned.get(OUTSIDE)) != now.get(name, now.get(OUTSIDE))


def named(names: Iterable[str]) -> str:
    """The first of these names, sorted, and how many more there are."""
    listed = sorted(names)
    shown = [name or "what the catalogue does not list" for name in listed[:_NAMED]]
    more = len(listed) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _verb(names: Sequence[str], one: str, many: str) -> str:
    return one if len(names) == 1 else many

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
        equal: Attributes of spans, many values or texts, without parameters of their own in the weights:
            equal weights decide them.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    equal: tuple[str, ...] = ()

    def to_json(self) -> dict[str, list[str]]:
        """Plain JSON values."""
        names = ("added", "changed", "removed", *(["equal"] if self.equal else []))
        return {name: list(getattr(self, name)) for name in names}

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return bool(self.added or self.changed or self.removed or self.equal)

    def __str__(self) -> str:
        """One sentence for people; empty where nothing changed."""
        since = "in the catalogue since these weights were learned"
        others = [name for name in (*self.changed, *self.added) if name not in self.equal]
        parts = [
            f"{named(self.changed)} changed" if self.changed else "",
            f"{named(self.added)} {_verb(self.added, 'is', 'are')} new" if self.added else "",
        ]
        news = " and ".join(filter(None, parts))
        use = f": {_use(others, self.equal)} the weights of all attributes" if others else ""
        gone = f"{named(self.removed)} left " if self.removed else ""
        sentences = [f"{news} {since}{use}"] if news else []
        if gone:
            sentences.append(gone + ("it" if news else "the catalogue since these weights were learned"))
        if self.equal:
            verb = _verb(self.equal, "has", "have")
            sentences.append(
                f"{named(self.equal)} {verb} equal weights, as these were not learned for "
                f"{_verb(self.equal, 'its kind', 'their kinds')} of answer"
            )
        return "; ".join(sentences)


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


def _use(others: Sequence[str], equal: Sequence[str]) -> str:
    if equal:
        return f"{named(others)} {_verb(others, 'uses', 'use')}"
    return _verb(others, "it uses", "they use")


def _verb(names: Sequence[str], one: str, many: str) -> str:
    return one if len(names) == 1 else many

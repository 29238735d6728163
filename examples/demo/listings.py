# SPDX-License-Identifier: Apache-2.0
"""Generate synthetic marketplace listings with known attribute values.

``python examples/demo/listings.py`` writes the 400 held-out listings of ``listings.jsonl``; with ``--out``
others. The gold value of an attribute follows from the words that the generator put in; noise never changes
their meaning.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from vocabulary import (
    ATTRIBUTES,
    AUDIENCE_HINTS,
    AUDIENCES,
    CATEGORIES,
    COLOR_HINTS,
    FILLERS,
    HERE,
    LINE_NAMES,
    MATERIAL_HINTS,
    NOT_STATED,
    NUMBER_HINTS,
    SIZE_FORMS,
    SIZES,
    Category,
    invent_brand,
    known_brands,
    words_for,
)

HELDOUT_SEED = 9001
HELDOUT_COUNT = 400
_HARD = ("synonym", "typo", "hint", "rich", "shuffled", "cased")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Mix:
    """The mix of listings to draw; all fields but the counts are probabilities in [0, 1]."""

    known_brands: int = 80
    """Number of well-known brands."""
    fresh_brand: float = 0.35
    """A brand is newly invented instead of well known."""
    unseen: bool = False
    """New brands come from the held-out names."""
    synonym: float = 0.5
    """A closed value is written as one of its synonyms."""
    typo: float = 0.1
    """A word of a closed value, an audience or the noun is misspelled."""
    hint: float = 0.2
    """Each kind of misleading words occurs."""
    rich: float = 0.45
    """Audience and material are written the long way: rare audiences, blends, sentences."""
    brand: float = 0.8
    color: float = 0.78
    material: float = 0.7
    size: float = 0.7
    audience: float = 0.75
    shuffled: float = 0.4
    """The phrases of the title come in any order."""
    cased: float = 0.35
    """The title is in capitals, in small letters, or Each Word Begins With A Capital."""

    def eased(self, factor: float) -> Mix:
        """The same mix with the probabilities of hard listings multiplied by ``factor`` (in [0, 1])."""
        hard = {name: getattr(self, name) * factor for name in _HARD}
        return replace(self, **hard)


HELDOUT_MIX = Mix(unseen=True)


@dataclass(frozen=True, slots=True)
class Listing:
    """One product listing with its gold."""

    category: str
    title: str
    gold: dict[str, tuple[str, ...]]
    """Attribute -> acceptable values, the preferred one first; ("n/a",) where the text does not say."""


def listings(seed: str | int, mix: Mix) -> Iterator[Listing]:
    """An endless stream of listings, the same for the same seed and mix."""
    rng = random.Random(f"listings {seed}")
    while True:
        yield _Writer(rng, mix).listing()


class _Writer:
    """Writes one listing: draws the facts and the phrases that state them, then adds noise."""

    def __init__(self, rng: random.Random, mix: Mix) -> None:
        self.rng = rng
        self.mix = mix
        self.gold: dict[str, tuple[str, ...]] = dict.fromkeys(ATTRIBUTES, (NOT_STATED,))

    def listing(self) -> Listing:
        rng = self.rng
        name = rng.choice(tuple(CATEGORIES))
        category = CATEGORIES[name]
        phrases = self._phrases(category)
        kept = [phrase for phrase in phrases if phrase]
        if self._happens(self.mix.shuffled):
            rng.shuffle(kept)
        title = " ".join(kept) if rng.random() < 0.7 else self._joined(kept)
        return Listing(
            name, self._cased(title), {attribute: self.gold[attribute] for attribute in ATTRIBUTES}
        )

    def _happens(self, probability: float) -> bool:
        return self.rng.random() < probability

    def _phrases(self, category: Category) -> list[str]:
        rng = self.rng
        brand = self._brand()
        audience, ages = self._audience(category)
        hints = self._hints(category)
        phrases = [
            brand,
            audience,
            self._color(category),
            self._material(category),
            self._misspelled(rng.choice(category.nouns)),
            self._size(category, ages),
        ]
        for phrase in (*hints, *rng.sample(FILLERS, rng.choice((0, 0, 1, 1, 2)))):
            phrases.insert(rng.randint(0, len(phrases)), phrase)
        return phrases

    def _brand_name(self) -> str:
        if self._happens(self.mix.fresh_brand):
            return invent_brand(self.rng, unseen=self.mix.unseen)
        names = known_brands_cached(self.mix.known_brands)
        return names[int(len(names) * self.rng.random() ** 1.5)]

    def _brand(self) -> str:
        rng = self.rng
        if not self._happens(self.mix.brand):
            return rng.choice(("", "", "", "unbranded", "no brand", "no name"))
        name = self._brand_name()
        self.gold["brand"] = (name,)
        written = rng.choice((name,) * 6 + (name.upper(), name.lower()))
        return rng.choice(
            ("{0}", "{0}", "{0}", "{0}", "{0}®", "by {0}", "brand: {0}", "{0} -", "from {0}")
        ).format(written)

    def _color(self, category: Category) -> str:
        rng = self.rng
        if not self._happens(self.mix.color):
            return ""
        color = rng.choice(tuple(_words("color")))
        self.gold["color"] = (color,)
        word = self._worded("color", color)
        if self._happens(0.06):
            other = rng.choice([value for value in _words("color") if value not in (color, "multicolor")])
            if color != "multicolor":
                self.gold["color"] = (color, other)
                return f"{word}/{self._worded('color', other)}"
        return rng.choice(("{0}", "{0}", "{0}", "in {0}", "colour: {0}", "color {0}")).format(word)

    def _material(self, category: Category) -> str:
        rng = self.rng
        if not self._happens(self.mix.material):
            return ""
        material = rng.choice(category.materials)
        self.gold["material"] = (material,)
        word = self._worded("material", material)
        if not self._happens(self.mix.rich):
            return rng.choice(("{0}", "{0}", "{0}", "100% {0}")).format(word)
        if self._happens(0.35):
            other = rng.choice([value for value in category.materials if value != material])
            share = rng.choice((55, 60, 65, 70, 75, 80, 90, 95))
            parts = [f"{share}% {word}", f"{100 - share}% {self._worded('material', other)}"]
            rng.shuffle(parts)
            return rng.choice((" ", ", ", " / ")).join(parts)
        return rng.choice(
            ("made of {0}", "material: {0}", "crafted from {0}", "in soft {0}", "{0} fabric", "upper: {0}")
        ).format(word)

    def _audience(self, category: Category) -> tuple[str, str]:
        rng = self.rng
        if not self._happens(self.mix.audience):
            return "", NOT_STATED
        common = [
            ("women", "adult"),
            ("men", "adult"),
            ("women", "kids"),
            ("men", "kids"),
            ("unisex", NOT_STATED),
        ]
        keys = tuple(AUDIENCES) if self._happens(self.mix.rich) else tuple(common)
        gender, age = rng.choice(keys)
        self.gold["gender"], self.gold["age_group"] = (gender,), (age,)
        return self._misspelled(rng.choice(AUDIENCES[gender, age])), age

    def _size(self, category: Category, age: str) -> str:
        rng = self.rng
        if not self._happens(self.mix.size):
            return ""
        wanted = {"kids": ("kids_years",), "teen": ("kids_years",), "baby": ("baby_months",)}.get(age, ())
        fitting = [system for system in category.sizes if system in wanted]
        others = [system for system in category.sizes if system not in ("kids_years", "baby_months")]
        implied = [system for system in category.sizes if age == NOT_STATED or system in others]
        system = rng.choice(fitting or implied)
        sizes = SIZES[system]
        if system == "kids_years":
            sizes = sizes[-2:] if age == "teen" else sizes[:-2] if age == "kids" else sizes
        size = rng.choice(sizes)
        self.gold["size"] = (size,)
        if system == "kids_years" and age == NOT_STATED:
            self.gold["age_group"] = ("teen",) if size in sizes[-2:] else ("kids",)
        if system == "baby_months":
            self.gold["age_group"] = ("baby",)
        numbers = re.findall(r"\d+", size) or [""]
        word = rng.choice(_words("size").get(size, (size,)))
        return rng.choice(SIZE_FORMS[system]).format(size, a=numbers[0], b=numbers[-1], word=word)

    def _hints(self, category: Category) -> list[str]:
        rng, mix = self.rng, self.mix
        phrases = []
        if self._happens(mix.hint):
            color = self._worded("color", rng.choice(tuple(_words("color"))))
            detail = rng.choice(category.details)
            phrases.append(
                rng.choice((f"with {color} {detail}", f"{color} {detail}", rng.choice(COLOR_HINTS)))
            )
        if self._happens(mix.hint * 0.6):
            material = self._worded("material", rng.choice(tuple(_words("material"))))
            detail = rng.choice(category.details)
            phrases.append(
                rng.choice((f"with {material} {detail}", f"{material} trim", rng.choice(MATERIAL_HINTS)))
            )
        if self._happens(mix.hint * 0.7):
            phrases.append(rng.choice(AUDIENCE_HINTS))
        if self._happens(mix.hint * 1.2):
            phrases.append(rng.choice(NUMBER_HINTS))
        if self._happens(mix.hint * 0.7):
            name = self._brand_name()
            phrases.append(
                rng.choice((f"{name} {rng.choice(LINE_NAMES)}", f"fits {name}", f"similar to {name}"))
            )
        return phrases

    def _worded(self, attribute: str, value: str) -> str:
        words = _words(attribute)[value]
        chosen = self.rng.choice(words[1:]) if len(words) > 1 and self._happens(self.mix.synonym) else value
        return self._misspelled(chosen)

    def _misspelled(self, phrase: str) -> str:
        if not self._happens(self.mix.typo):
            return phrase
        words = phrase.split(" ")
        index = self.rng.randrange(len(words))
        words[index] = misspell(words[index], self.rng)
        return " ".join(words)

    def _joined(self, phrases: list[str]) -> str:
        separator = self.rng.choice((", ", " - ", " | ", "  "))
        return separator.join(phrases)

    def _cased(self, title: str) -> str:
        if not self._happens(self.mix.cased):
            return title
        draw = self.rng.random()
        if draw < 0.2:
            return title.upper()
        if draw < 0.45:
            return title.lower()
        return " ".join(word[:1].upper() + word[1:] for word in title.split(" "))


@cache
def known_brands_cached(count: int) -> tuple[str, ...]:
    """:func:`vocabulary.known_brands`, computed once."""
    return known_brands(count)


@cache
def _words(attribute: str) -> dict[str, tuple[str, ...]]:
    return words_for(attribute)


@cache
def _all_words() -> frozenset[str]:
    """All words of the vocabulary, so that no misspelling is another of its words."""
    phrases = [
        word for name in ("color", "material", "size") for words in _words(name).values() for word in words
    ]
    phrases += [phrase for group in AUDIENCES.values() for phrase in group]
    phrases += [noun for category in CATEGORIES.values() for noun in (*category.nouns, *category.details)]
    return frozenset(word for phrase in phrases for word in phrase.split(" "))


def misspell(word: str, rng: random.Random) -> str:
    """Misspell a word by one edit: swap, drop, double or replace a letter after the first one.

    Args:
        word: The word; returned unchanged if shorter than five letters, since its meaning could be lost.
        rng: Source of randomness.

    Returns:
        The misspelled word, never another word of the vocabulary.
    """
    if len(word) < 5 or not word.isalpha():
        return word
    at = rng.randrange(1, len(word) - 1)
    wrong = rng.choice(
        (
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word[:at] + rng.choice(_LETTERS) + word[at + 1 :],
        )
    )
    return word if wrong in _all_words() else wrong


def heldout() -> list[dict[str, object]]:
    """The held-out listings as rows of ``listings.jsonl``: product, category, title, gold."""
    return rows(HELDOUT_SEED, HELDOUT_COUNT, "demo", HELDOUT_MIX)


def rows(seed: int, count: int, name: str, mix: Mix) -> list[dict[str, object]]:
    """Listings as rows; ``name`` begins their products."""
    return [
        {
            "product": f"{name}-{number:04d}",
            "category": listing.category,
            "title": listing.title,
            "gold": {attribute: list(values) for attribute, values in listing.gold.items()},
        }
        for number, listing in zip(range(count), listings(seed, mix), strict=False)
    ]


def main() -> None:
    """Write the held-out listings to ``listings.jsonl`` in this folder, or others to a file."""
    parser = argparse.ArgumentParser(description="Write synthetic listings with gold.")
    parser.add_argument("--out", type=Path, help="file to write others than the held-out listings to")
    parser.add_argument("--seed", type=int, default=1, help="of these others")
    parser.add_argument("--count", type=int, default=HELDOUT_COUNT, help="number of these others")
    parser.add_argument("--train", action="store_true", help="with brands that the LLMs were trained on")
    args = parser.parse_args()
    mix = replace(HELDOUT_MIX, unseen=not args.train)
    drawn = rows(args.seed, args.count, f"seed{args.seed}", mix) if args.out else heldout()
    lines = [json.dumps(row, ensure_ascii=False) for row in drawn]
    (args.out or HERE / "listings.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Word lists of the synthetic marketplace: categories, audiences, sizes, distractors, invented brands.

Values and synonyms of the closed attributes are in ``attributes.json``, all other words here.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ATTRIBUTES: tuple[str, ...] = ("brand", "color", "material", "size", "gender", "age_group")
NOT_STATED = "n/a"


@dataclass(frozen=True, slots=True)
class Category:
    """Words of one product category."""

    nouns: tuple[str, ...]
    materials: tuple[str, ...]
    sizes: tuple[str, ...]
    """Size systems in use, keys of :data:`SIZES`."""
    details: tuple[str, ...]
    """Parts whose colour or material is not the item's: "laces", "lining"."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


CATEGORIES: dict[str, Category] = {
    "shoes": Category(
        _words(
            "sneakers, trainers, running shoes, loafers, ankle boots, lace-up shoes, slip-ons, hiking shoes"
        ),
        _words("leather, faux leather, suede, canvas, nylon, polyester"),
        _words("eu, us, eu, us, kids_years"),
        _words("laces, sole, stitching, lining, heel tab"),
    ),
    "sandals": Category(
        _words("sandals, flip flops, slides, wedge sandals, strappy sandals"),
        _words("leather, faux leather, suede, canvas"),
        _words("eu, us"),
        _words("straps, sole, buckle, footbed"),
    ),
    "t-shirts": Category(
        _words("t-shirt, tee, polo shirt, v-neck tee, long sleeve top, graphic tee"),
        _words("cotton, linen, polyester, silk"),
        _words("alpha, alpha, alpha, kids_years, baby_months"),
        _words("logo, print, collar, piping, stripes"),
    ),
    "jackets": Category(
        _words("jacket, rain coat, bomber jacket, parka, blazer, hooded jacket, windbreaker"),
        _words("leather, faux leather, suede, wool, polyester, nylon, denim, canvas"),
        _words("alpha, alpha, eu_wear, kids_years"),
        _words("zip, lining, buttons, hood, cuffs"),
    ),
    "dresses": Category(
        _words("dress, maxi dress, wrap dress, midi dress, summer dress, evening gown"),
        _words("cotton, linen, silk, polyester, denim, wool"),
        _words("alpha, eu_wear, kids_years"),
        _words("belt, hem, lining, sash, flowers"),
    ),
    "trousers": Category(
        _words("trousers, jeans, chinos, joggers, cargo pants, leggings, shorts"),
        _words("cotton, denim, linen, polyester, wool, leather, faux leather"),
        _words("waist, waist, alpha, kids_years"),
        _words("stitching, side stripe, belt, buttons, pockets"),
    ),
    "bags": Category(
        _words("backpack, tote bag, handbag, shoulder bag, duffel bag, crossbody bag, school bag"),
        _words("leather, faux leather, suede, canvas, nylon, polyester, cotton"),
        _words("litres, litres, cm"),
        _words("straps, zip, lining, tassel, handles"),
    ),
    "watches": Category(
        _words("watch, wrist watch, chronograph, diving watch, quartz watch"),
        _words("steel, leather, faux leather, nylon, wood, silk"),
        _words("mm"),
        _words("dial, hands, bezel, strap"),
    ),
    "hats": Category(
        _words("hat, beanie, baseball cap, bucket hat, sun hat"),
        _words("cotton, wool, polyester, linen, suede, denim"),
        _words("alpha, cm, baby_months"),
        _words("brim, pompom, logo, band"),
    ),
    "socks": Category(
        _words("socks, ankle socks, hiking socks, knee socks"),
        _words("cotton, wool, silk, polyester, nylon"),
        _words("eu_range, alpha, baby_months"),
        _words("toe, heel, stripes, logo"),
    ),
    "sportswear": Category(
        _words("sports bra, track suit, yoga pants, cycling jersey, training vest, swim shorts"),
        _words("polyester, nylon, cotton, wool"),
        _words("alpha, alpha, kids_years"),
        _words("piping, logo, waistband, stripes"),
    ),
    "toys": Category(
        _words("teddy bear, building blocks, toy car, doll, puzzle, stacking rings, toy train"),
        _words("wood, cotton, polyester, wool, steel"),
        _words("cm, cm, cm"),
        _words("wheels, ribbon, scarf, box"),
    ),
}

AUDIENCES: dict[tuple[str, str], tuple[str, ...]] = {
    ("women", "adult"): _words("women's, womens, ladies, ladies', for women, wmns, woman"),
    ("men", "adult"): _words("men's, mens, gents, for men, gentlemen's, mns"),
    ("women", "kids"): _words("girls, girls', girl's, for girls"),
    ("men", "kids"): _words("boys, boys', boy's, for boys"),
    ("women", "teen"): _words("teen girls, teenage girls, youth girls"),
    ("men", "teen"): _words("teen boys, teenage boys, youth boys"),
    ("women", "baby"): _words("baby girl, newborn girl, infant girls, toddler girls"),
    ("men", "baby"): _words("baby boy, newborn boy, infant boys, toddler boys"),
    ("unisex", NOT_STATED): _words("unisex, his and hers, for him and her"),
    ("unisex", "adult"): _words("unisex adult, men and women, women and men, for men & women"),
    ("unisex", "kids"): _words("unisex kids, boys and girls, girls & boys"),
    ("unisex", "teen"): _words("unisex teen, unisex youth"),
    ("unisex", "baby"): _words("unisex baby, unisex infant"),
    ("women", NOT_STATED): _words("for her, female, feminine cut"),
    ("men", NOT_STATED): _words("for him, male, masculine cut"),
    (NOT_STATED, "adult"): _words("adult, adults, grown-ups"),
    (NOT_STATED, "teen"): _words("teen, teens, youth, for teenagers"),
    (NOT_STATED, "kids"): _words("kids, kids', children's, childrens, child"),
    (NOT_STATED, "baby"): _words("baby, infant, toddler, newborn"),
}
"""Phrases that state (gender, age group)."""

AUDIENCE_HINTS: tuple[str, ...] = _words(
    "gift for mum, gift for dad, boyfriend fit, baby soft, ladybird print, man-made sole,"
    " girl power slogan, grandpa style, childproof clasp, inspired by mens tailoring,"
    " great gift for men, great gift for women, mothers day gift, teen spirit print, kid at heart,"
    " king of the road patch, loved by boys and girls alike"
)
"""Phrases that mention people but do not state the gender or age group of the wearer."""

COLOR_HINTS: tuple[str, ...] = _words(
    "cherry print, lemon print, rose motif, green choice packaging, rainbow print, olive branch logo,"
    " plum blossom pattern, red hot deal, black friday sale, orange fruit print, sand proof"
)
MATERIAL_HINTS: tuple[str, ...] = _words(
    "silky soft, cotton feel, woolly look, as strong as steel, buttery leather scent, canvas print,"
    " denim friendly, suede like touch, bamboo print"
)
NUMBER_HINTS: tuple[str, ...] = _words(
    "pack of 3, 2 pcs, set of 2, 2024 collection, new 2025, model 730, art. 4412, 5 pockets,"
    " 30 day returns, 100% original, 3000mm water column, top 10, ref 38, 50m water resistant,"
    " 4.8 stars, no. 7, 2 in 1, series 40"
)
FILLERS: tuple[str, ...] = _words(
    "new, hot sale, casual, classic, slim fit, regular fit, waterproof, breathable, lightweight,"
    " vintage, elegant, summer, winter, outdoor, premium, comfortable, free shipping, high quality,"
    " fashion, everyday, travel, office, party, sport, limited offer, handmade, non-slip, soft,"
    " stylish, durable"
)
LINE_NAMES: tuple[str, ...] = _words("collection, series, edition, line")

SIZES: dict[str, tuple[str, ...]] = {
    "eu": _words("36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 38.5, 42.5"),
    "us": _words("5, 6, 6.5, 7, 7.5, 8, 8.5, 9, 9.5, 10, 10.5, 11, 12"),
    "alpha": _words("XS, S, M, L, XL, XXL, XXXL"),
    "eu_wear": _words("34, 36, 38, 40, 42, 44, 46, 48, 50, 52"),
    "waist": _words(
        "28x30, 29x32, 30x30, 30x32, 31x32, 32x30, 32x32, 32x34, 33x34, 34x32, 34x34, 36x32, 36x34, 38x34"
    ),
    "eu_range": _words("35-38, 39-42, 43-46"),
    "kids_years": _words("2-3Y, 3-4Y, 4-5Y, 5-6Y, 6-7Y, 7-8Y, 9-10Y, 11-12Y, 13-14Y, 15-16Y"),
    "baby_months": _words("0-3M, 3-6M, 6-9M, 6-12M, 9-12M, 12-18M, 18-24M"),
    "litres": _words("8L, 10L, 12L, 15L, 18L, 20L, 25L, 30L, 40L, 45L, 60L"),
    "mm": _words("28mm, 32mm, 36mm, 38mm, 40mm, 41mm, 42mm, 44mm, 46mm"),
    "cm": _words("15cm, 20cm, 25cm, 28cm, 30cm, 35cm, 40cm, 45cm, 56cm, 58cm"),
}
"""Canonical sizes by system."""

SIZE_FORMS: dict[str, tuple[str, ...]] = {
    "eu": _words("{0}, size {0}, EU {0}, EU{0}, sz {0}, eur {0}"),
    "us": _words("US {0}, size {0}, UK {0}, sz {0}, US{0}"),
    "alpha": _words("{0}, size {0}, sz {0}, {word}, ({0})"),
    "eu_wear": _words("size {0}, EU {0}, sz {0}, IT {0}"),
    "waist": _words("{0}, W{a} L{b}, {a}/{b}, {a} x {b}, W{a}/L{b}, waist {a} length {b}"),
    "eu_range": _words("{0}, EU {0}, size {a} to {b}, {a}/{b}"),
    "kids_years": _words("{0}, {a}-{b} years, age {a}-{b}, {a}-{b} yrs, {a} to {b} years"),
    "baby_months": _words("{0}, {a}-{b} months, {a}-{b} mths, {a} to {b} months"),
    "litres": _words("{0}, {a} litre, {a} L, {a} litres, {a}ltr"),
    "mm": _words("{0}, {a} mm, {a} millimetre"),
    "cm": _words("{0}, {a} cm, {a} centimetres"),
}
"""How listings write a size: {0} canonical, {a} and {b} its numbers, {word} the word for a letter size."""

_STARTS = _words(
    "Vel, Quor, Tam, Brim, Osk, Zun, Kav, Lor, Mir, Nev, Pel, Rud, Sil, Tor, Ulv, Wen, Yor, Dra, Fen,"
    " Gol, Hol, Jun, Bex, Cor, Elm, Arv, Ist, Ond, Ruv, Sab"
)
_MIDDLES = _words("a, e, i, o, u, ana, eri, omi, uva, ette, ilo, andro, arka, inka, olva, esta, umbra, ado")
_ENDS = _words(
    "ra, lo, nix, via, mo, dal, quin, sa, tek, wen, zo, bri, net, line, vik, lund, ska, rix, mar, tis"
)
_SECONDS = _words("Trail, Finch, Pine, Sons, Atelier, Works, Harbor, Studio, North, Field")
_UNSEEN_SHARE = 8


def invent_brand(rng: random.Random, *, unseen: bool) -> str:
    """Invent a brand name from syllables.

    Args:
        rng: Source of randomness.
        unseen: True draws from the names that never occur in training, False from the others. A hash of the
            name decides, so the two sets are disjoint for all seeds.

    Returns:
        One or two capitalised words.
    """
    while True:
        name = (
            rng.choice(_STARTS) + rng.choice(_MIDDLES) + (rng.choice(_ENDS) if rng.random() < 0.8 else "dra")
        )
        if rng.random() < 0.2:
            name += (" & " if rng.random() < 0.3 else " ") + rng.choice(_SECONDS)
        if is_unseen(name) == unseen:
            return name


def is_unseen(brand: str) -> bool:
    """Whether a brand name belongs to the held-out names (one in eight, by hash)."""
    return hashlib.sha256(brand.lower().encode()).digest()[0] % _UNSEEN_SHARE == 0


def known_brands(count: int) -> tuple[str, ...]:
    """The marketplace's well-known brands, most popular first; a longer list starts with the shorter one."""
    rng = random.Random("known brands")
    names: dict[str, None] = {}
    while len(names) < count:
        names[invent_brand(rng, unseen=False)] = None
    return tuple(names)


def _load() -> dict[str, dict[str, list[str] | dict[str, str] | str | None]]:
    loaded: dict[str, dict[str, list[str] | dict[str, str] | str | None]] = json.loads(
        (HERE / "attributes.json").read_text(encoding="utf-8")
    )
    return loaded


def values_of(attribute: str) -> tuple[str, ...] | None:
    """Allowed values of a closed attribute without "n/a"; None for an open one."""
    values = _load()[attribute]["values"]
    return tuple(values) if isinstance(values, list) else None


def words_for(attribute: str) -> dict[str, tuple[str, ...]]:
    """Canonical value -> the words that a listing may use for it, the value first."""
    synonyms = _load()[attribute]["synonyms"]
    assert isinstance(synonyms, dict)
    canonical = values_of(attribute) or tuple(dict.fromkeys(synonyms.values()))
    return {
        value: (value, *(word for word, target in synonyms.items() if target == value)) for value in canonical
    }

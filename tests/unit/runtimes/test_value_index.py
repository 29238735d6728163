# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
import unicodedata

import pytest

from quorum.runtimes.value_index import FilledProduct, Found, ValueIndex
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue

OPEN = Catalogue({}, "exact")


def index(*rows: tuple[str, dict[str, object]], catalogue: Catalogue = OPEN) -> ValueIndex:
    """An index of products, each of a text and of attributes with one value or several."""
    products = [
        FilledProduct(
            str(number),
            text,
            {name: (value,) if isinstance(value, str) else tuple(value) for name, value in values.items()},  # type: ignore[arg-type,var-annotated]
        )
        for number, (text, values) in enumerate(rows)
    ]
    return ValueIndex(lambda: products, catalogue)


def value(built: ValueIndex, text: str, attribute: str = "brand", **how: float) -> str | None:
    found = built.find(text, [attribute], **how).get(attribute)
    return found.value if found else None


def test_precision_is_the_share_of_the_filled_titles_with_the_value() -> None:
    built = index(
        ("a Nike shoe", {"brand": "Nike"}),
        ("b Nike shoe", {"brand": "Nike"}),
        ("laces for Nike", {"brand": "n/a"}),
        ("fits Nike", {"brand": "Acme"}),
        ("Nike, whose brand nobody filled in", {"size": "42"}),
    )
    assert built.find("my Nike cap", ["brand", "size"]) == {"brand": Found("Nike", 2.5 / 5.0)}
    assert value(built, "my Nike cap", min_precision=0.5) == "Nike"
    assert value(built, "my Nike cap", min_precision=0.51) is None
    assert built.find("my Nike cap", ["size"]) == {}


def test_the_product_itself_does_not_count() -> None:
    built = index(
        ("Acme  mug", {"brand": "Acme"}), ("Nike mug", {"brand": "Nike"}), ("Nike cup", {"brand": "Nike"})
    )
    assert value(built, "acme MUG") is None
    assert value(built, "Acme cup") == "Acme"
    # One of two is left, in this text or under another text of the same product.
    assert built.find("Nike mug", ["brand"]) == {"brand": Found("Nike", 1.5 / 2.0)}
    assert built.find("a Nike", ["brand"], same=["Nike mug"]) == {"brand": Found("Nike", 1.5 / 2.0)}
    assert built.find("a Nike", ["brand"], same=["Nike mug", "NIKE mug"])["brand"].precision == 0.75
    assert built.find("a Nike", ["brand"], same=["Nike mug", "Nike cup"]) == {}
    assert built.find("a Nike", ["brand"], same=["Acme mug"])["brand"].precision == 2.5 / 3.0
    assert built.find("a Nike", ["brand"], same=["unheard of"])["brand"].precision == 2.5 / 3.0


def test_all_products_with_the_text_are_left_out() -> None:
    built = index(*[("Acme mug", {"brand": "Acme"})] * 3, ("other mug", {"brand": "n/a"}))
    assert value(built, "Acme mug") is None
    assert built.find("Acme cup", ["brand"])["brand"].precision == 3.5 / 4.0


def test_leaving_out_is_the_same_as_not_indexing() -> None:
    rng = random.Random(4)
    words = [f"w{n}" for n in range(12)]
    rows: list[tuple[str, dict[str, object]]] = []
    for _ in range(80):
        title = " ".join(rng.choices(words, k=rng.randint(1, 6)))
        picked = rng.sample(title.split(), min(2, len(title.split())))
        rows.append((title, {"a": rng.choice([picked, "n/a"]), "b": " ".join(picked)}))
    whole = index(*rows)
    for title, _ in rows:
        rest = index(*(row for row in rows if row[0] != title))
        assert whole.find(title, ["a", "b"]) == rest.find(title, ["a", "b"])


def test_nothing_is_proposed_that_no_product_has() -> None:
    closed = Catalogue.of([Attribute("color", values=("red", "blue"), synonyms={"crimson": "red"})])
    built = index(
        ("crimson hat", {"color": "red"}),
        ("blue hat", {"color": "teal"}),
        ("teal hat", {"color": "teal"}),
        catalogue=closed,
    )
    assert value(built, "Crimson shoe", "color") == "red"
    assert value(built, "blue shoe", "color") is None
    assert value(built, "teal shoe", "color") is None
    assert value(built, "red shoe", "color") is None
    assert value(built, "shoe", "color") is None
    assert value(built, "", "color") is None
    assert value(built, "crimson", "unheard of") is None


def test_the_longest_of_the_nearly_best_wins() -> None:
    rows: list[tuple[str, dict[str, object]]] = [
        (f"{n} Red Bull can", {"brand": "Red Bull" if n else "n/a"}) for n in range(20)
    ]
    rows += [(f"{n} bull ring", {"brand": "Bull"}) for n in range(400)]
    built = index(*rows)
    assert (
        built.find("Red Bull", ["brand"])["brand"].precision
        < built.find("bull", ["brand"])["brand"].precision
    )
    assert value(built, "a Red Bull mug") == "Red Bull"
    assert value(built, "a bull mug") == "Bull"


def test_a_longer_value_that_is_far_from_the_best_does_not_win() -> None:
    built = index(*((f"{n} Nike Air", {"brand": "Nike" if n else "Nike Air"}) for n in range(9)))
    assert value(built, "new Nike Air") == "Nike"


def test_long_and_short_values_that_begin_alike_are_found() -> None:
    names = ("abcde", "abcde fgh ijk", "abcde fgh", "ab")
    for order in (names, names[::-1], names[1:] + names[:1]):
        built = index(*((f"{n} {name} end", {"a": name}) for n, name in enumerate(order)))
        for name in ("abcde fgh ijk", "ab"):
            assert value(built, f"my {name}", "a") == name


@pytest.mark.parametrize(
    ("spelling", "text", "found"),
    [
        ("red", "hundred", False),
        ("red", "redder", False),
        ("red", "(red)", True),
        ("red", "dark-red!", True),
        ("10 X 20", "box, 10x20.", True),
        ("C++", "the c++ book", True),
        ("C++", "the C book", False),
        ("5.5", "size 5.5", True),
        ("5.5", "size 55", False),
        ("5.5", "size 5 5", False),
        ("STRASSE", "lange Straße 5", True),
        ("İstanbul", "in i̇stanbul", True),
        ("Café", unicodedata.normalize("NFD", "le CAFÉ noir"), True),
        (unicodedata.normalize("NFD", "Café"), "le café", True),
        ("\u03aa\u0301\u03b4\u03b1", "\u0390\u03b4\u03b1", True),
        ("Nike", "Nike™ shoe", True),
        ("x", "x\u030c y", False),
        ("हिन्द", "हिन्दी", False),
        ("हिन्दी", "यह हिन्दी है", True),
        ("黑色", "新款黑色鞋", True),
        ("größe 8 👟", "GRÖSSE  8 👟", True),
        ("x" * 65, "x" * 65, False),
        (" ", "a b", False),
    ],
)
def test_a_value_is_found_from_border_to_border(spelling: str, text: str, found: bool) -> None:
    built = index((f"one {spelling} more", {"a": spelling}))
    assert value(built, text, "a") == (spelling if found else None)


def test_a_normalised_value_is_found_as_it_is_written_too() -> None:
    measures = Catalogue.of([Attribute("weight", normaliser="measure")])
    built = index(
        ("bag 1,5 Kilograms", {"weight": "1,5 Kilograms"}),
        ("box 1.5 kg", {"weight": "1.5kg"}),
        catalogue=measures,
    )
    assert value(built, "jar of 1.5kg", "weight") == "1.5kg"
    assert value(built, "jar of 1,5 kilograms", "weight") == "1.5kg"


def test_several_acceptable_values_count_once() -> None:
    built = index(
        ("red crimson hat", {"color": ["red", "crimson"]}), ("red tie crimson", {"color": ["crimson"]})
    )
    assert built.find("crimson", ["color"])["color"].precision == 2.5 / 3.0
    assert built.find("red", ["color"])["color"].precision == 1.5 / 3.0


def test_ties_do_not_depend_on_the_order_of_products() -> None:
    rows: list[tuple[str, dict[str, object]]] = [
        (f"{n} ab ba", {"a": one}) for n, one in enumerate(("ab", "ba"))
    ]
    assert value(index(*rows), "ab ba", "a") == value(index(*rows[::-1]), "ba ab", "a") == "ab"

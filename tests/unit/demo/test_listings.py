# SPDX-License-Identifier: Apache-2.0
"""The generator: deterministic, gold follows from the text, held-out texts and brands stay unseen."""

import json
import random
import re
from functools import cache
from itertools import islice

import pytest
from listings import HELDOUT_COUNT, HELDOUT_MIX, HELDOUT_SEED, Mix, heldout, listings, misspell
from vocabulary import (
    ATTRIBUTES,
    AUDIENCES,
    HERE,
    NOT_STATED,
    SIZES,
    invent_brand,
    is_unseen,
    known_brands,
    values_of,
    words_for,
)

CLEAN = Mix(typo=0.0, hint=0.0, shuffled=0.0)
SHIPPED = [json.loads(line) for line in (HERE / "listings.jsonl").read_text(encoding="utf-8").splitlines()]


@cache
def sample(mix: Mix = Mix()):  # noqa: B008, it is constant
    """Made by the first test that needs it, not by every process that collects the tests."""
    return list(islice(listings("test", mix), 3000))


def _says(title: str, phrase: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(phrase.lower())}(?!\w)", title.lower()) is not None


def test_same_seed_same_listings_other_seed_others():
    assert list(islice(listings(5, Mix()), 50)) == list(islice(listings(5, Mix()), 50))
    assert list(islice(listings(5, Mix()), 50)) != list(islice(listings(6, Mix()), 50))


def test_shipped_listings_are_what_the_generator_writes():
    assert heldout() == SHIPPED
    assert len(SHIPPED) == HELDOUT_COUNT
    assert len({row["product"] for row in SHIPPED}) == HELDOUT_COUNT


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_every_attribute_occurs_stated_and_not_stated(attribute):
    stated = sum(row["gold"][attribute] != [NOT_STATED] for row in SHIPPED)
    assert HELDOUT_COUNT // 4 < stated < HELDOUT_COUNT - HELDOUT_COUNT // 10


@pytest.mark.parametrize("attribute", ["color", "material", "gender", "age_group"])
def test_closed_gold_values_are_in_the_catalogue_and_each_occurs(attribute):
    found = {value for listing in sample() for value in listing.gold[attribute]}
    assert found == {*(values_of(attribute) or ()), NOT_STATED}


def test_gold_sizes_are_canonical():
    known = {size for sizes in SIZES.values() for size in sizes}
    assert {listing.gold["size"][0] for listing in sample()} <= known | {NOT_STATED}


@pytest.mark.parametrize("attribute", ["color", "material"])
def test_clean_text_names_the_gold_value_and_no_other_when_not_stated(attribute):
    words = words_for(attribute)
    for listing in sample(CLEAN):
        gold = listing.gold[attribute]
        if gold == (NOT_STATED,):
            named = [word for group in words.values() for word in group if _says(listing.title, word)]
            assert not set(named) - {"large", "small", "rose"}, listing
        else:
            for value in gold:
                assert any(_says(listing.title, word) for word in words[value]), listing


def test_brand_is_written_in_the_text_letter_by_letter():
    for listing in sample():
        brand = listing.gold["brand"][0]
        assert brand == NOT_STATED or brand.lower() in listing.title.lower(), listing


def test_clean_audience_follows_from_its_phrase_or_size():
    for listing in sample(CLEAN):
        gender, age = listing.gold["gender"][0], listing.gold["age_group"][0]
        stated = [key for key, phrases in AUDIENCES.items() if any(_says(listing.title, p) for p in phrases)]
        if (gender, age) == (NOT_STATED, NOT_STATED):
            assert not stated, listing
        else:
            implied = listing.gold["size"][0][-1:] in ("Y", "M")
            assert (gender, age) in stated or (implied and ((gender, NOT_STATED) in stated or not stated)), (
                listing
            )


def test_larger_share_of_a_blend_is_the_material():
    seen = 0
    for listing in sample(CLEAN):
        shares = re.findall(r"(\d+)% ([a-z ]+?)(?= \d|,| /|$)", listing.title.lower())
        if len(shares) == 2 and shares[0][0] != shares[1][0]:
            larger = max(shares, key=lambda share: int(share[0]))[1]
            words = words_for("material")[listing.gold["material"][0]]
            assert any(larger.startswith(word) for word in words), listing
            seen += 1
    assert seen > 50


def test_training_sees_no_heldout_text_and_no_unseen_brand():
    shipped = {row["title"].lower() for row in SHIPPED}
    for seed in ("training 11 0", "training 22 1", "tokenizer 33"):
        for listing in islice(listings(seed, Mix(fresh_brand=0.9)), 3000):
            assert listing.title.lower() not in shipped
            assert not is_unseen(listing.gold["brand"][0]) or listing.gold["brand"][0] == NOT_STATED


def test_heldout_listings_hold_unseen_and_known_brands():
    brands = [row["gold"]["brand"][0] for row in SHIPPED if row["gold"]["brand"] != [NOT_STATED]]
    unseen = sum(map(is_unseen, brands))
    assert 0.25 < unseen / len(brands) < 0.5
    assert set(brands) & set(known_brands(HELDOUT_MIX.known_brands))


def test_heldout_seed_is_no_training_stream():
    first = next(listings(HELDOUT_SEED, HELDOUT_MIX))
    assert SHIPPED[0]["title"] == first.title


def test_known_brands_of_a_longer_list_start_with_the_shorter():
    assert known_brands(80)[:30] == known_brands(30)


@pytest.mark.parametrize("unseen", [True, False])
def test_invented_brands_stay_on_their_side(unseen):
    rng = random.Random(1)
    assert all(is_unseen(invent_brand(rng, unseen=unseen)) is unseen for _ in range(500))


def test_misspelling_changes_long_words_only_and_never_into_another_word():
    rng = random.Random(2)
    assert {misspell("red", rng) for _ in range(50)} == {"red"}
    assert {misspell("t-shirt", rng) for _ in range(50)} == {"t-shirt"}
    wrong = {misspell("woman", rng) for _ in range(2000)}
    assert "women" not in wrong
    assert len(wrong) > 20
    assert all(word[0] == "w" for word in wrong)


def test_eased_mix_is_plain_at_zero_and_itself_at_one():
    plain = Mix().eased(0.0)
    assert (plain.typo, plain.hint, plain.synonym, plain.rich, plain.shuffled) == (0.0,) * 5
    assert Mix().eased(1.0) == Mix()

# SPDX-License-Identifier: Apache-2.0
"""Patterns and histograms say exactly who agrees with whom, and add up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quorum.decision.histogram import compress, histogram, right_mask, right_members
from quorum.decision.patterns import decode_keys, key_space, pattern_keys

CODES = hnp.arrays(np.int16, st.tuples(st.integers(1, 40), st.integers(1, 6)), elements=st.integers(-1, 4))


def canonical(row):
    ids = {-1: -1, 0: 0}
    return [ids.setdefault(int(v), len(ids) - 1) for v in row]


@given(CODES)
def test_keys_decode_to_the_canonical_form_of_a_plain_loop(codes):
    keys = pattern_keys(codes)
    assert decode_keys(keys, codes.shape[1]).tolist() == [canonical(row) for row in codes]
    assert 0 <= keys.min() <= keys.max() < key_space(codes.shape[1])


@given(CODES, st.randoms(use_true_random=False))
def test_renaming_values_within_a_cell_changes_nothing(codes, random):
    names = [random.sample(range(1, 3000), 5) for _ in codes]
    renamed = np.array([[v if v <= 0 else names[i][v] for v in row] for i, row in enumerate(codes)], np.int16)
    assert np.array_equal(pattern_keys(codes), pattern_keys(renamed))


@pytest.mark.parametrize(("members", "patterns"), [(1, 3), (2, 10), (3, 37), (4, 151), (5, 674)])
def test_number_of_reachable_patterns(members, patterns):
    grid = np.stack(np.meshgrid(*[np.arange(-1, members + 1)] * members), -1).reshape(-1, members)
    assert len(np.unique(pattern_keys(grid))) == patterns


def test_integer_types_and_many_members_give_the_same_patterns():
    rng = np.random.default_rng(0)
    for members in (5, 9, 18):
        codes = rng.integers(-1, 4, (500, members))
        expected = [canonical(row) for row in codes]
        for dtype in (np.int8, np.int16, np.int32, np.int64):
            assert decode_keys(pattern_keys(codes.astype(dtype)), members).tolist() == expected


def test_large_ids_are_not_cut_off():
    assert pattern_keys(np.array([[1, 257], [1, 1]], np.int32)).tolist() == [11, 10]


def test_a_code_below_abstention_is_refused():
    with pytest.raises(ValueError, match="a code is -2"):
        pattern_keys(np.array([[1, -1], [1, -2]], np.int8))


@pytest.mark.parametrize(("cells", "members"), [(1, 5), (65_536, 5), (65_537, 5), (140_000, 3), (70_000, 8)])
def test_blocks_and_packed_digits_give_the_mixed_radix_number(cells, members):
    codes = np.random.default_rng(cells).integers(-1, members, (cells, members)).astype(np.int32)
    keys = np.zeros(cells, np.int64)
    for j in range(members):
        first = np.full(cells, j + 2)
        for k in range(j - 1, -1, -1):
            first[codes[:, j] == codes[:, k]] = k + 2
        keys = keys * (j + 3) + np.where(codes[:, j] == -1, 0, np.where(codes[:, j] == 0, 1, first))
    assert np.array_equal(pattern_keys(codes), keys)
    hist, where = compress(codes)
    assert np.array_equal(pattern_keys(hist.codes)[where], keys)
    assert np.array_equal(hist.counts, np.unique(keys, return_counts=True)[1])


@pytest.mark.parametrize("bad", [np.zeros(3, np.int8), np.zeros((2, 3)), np.zeros((2, 0), np.int8),
                                 np.zeros((2, 19), np.int8), np.zeros((2, 2), np.uint8)])  # fmt: skip
def test_not_a_matrix_of_codes_is_refused(bad):
    with pytest.raises(ValueError, match=r"codes must be|members"):
        pattern_keys(bad)


def counted(codes, groups, right):
    seen = {}
    for row, group, mask in zip(codes, groups, right, strict=True):
        key = (int(group), tuple(canonical(row)), int(mask))
        seen[key] = seen.get(key, 0) + 1
    return seen


def as_dict(hist):
    rows = zip(hist.groups.tolist(), map(tuple, hist.codes.tolist()), hist.right.tolist(), strict=True)
    return dict(zip(rows, hist.counts.tolist(), strict=True))


@given(CODES, st.integers(0, 2**32 - 1))
def test_histogram_is_a_count_and_shards_add(codes, seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 3, len(codes)).astype(np.int32)
    right = right_mask(codes, rng.integers(-1, 5, len(codes)))
    whole = histogram(codes, groups, right)
    assert as_dict(whole) == counted(codes, groups, right)
    cut = rng.integers(0, len(codes) + 1)
    halves = histogram(codes[:cut], groups[:cut], right[:cut]) + histogram(
        codes[cut:], groups[cut:], right[cut:]
    )
    assert np.array_equal(whole.codes, halves.codes)
    assert np.array_equal(whole.counts, halves.counts)
    small, where = compress(codes, groups, right)
    assert small.codes[where].tolist() == [canonical(row) for row in codes]
    assert np.array_equal(small.groups[where], groups)


@given(CODES)
def test_without_groups_and_gold_the_fast_path_counts_the_same(codes):
    zeros, none = np.zeros(len(codes), np.int32), np.full(len(codes), -1)
    assert as_dict(histogram(codes)) == counted(codes, zeros, none) == as_dict(compress(codes)[0])


def test_gold_masks():
    codes = np.array([[1, 2, 1], [1, -1, 2], [0, 0, 1], [1, 1, 1], [-1, -1, -1]])
    gold = np.array([1, 3, 0, -1, 2])
    assert right_mask(codes, gold).tolist() == [0b101, 0, 0b011, -1, 0]
    hist = histogram(codes, None, right_mask(codes, gold))
    assert right_members(hist.right, hist.members)[hist.right == 0b101].tolist() == [[True, False, True]]
    assert hist.labelled().total == 4
    assert hist.unlabelled().labelled().total == 0


def test_collapsing():
    codes = np.array([[0, 1], [1, 2], [0, 0], [1, 1]])
    hist = histogram(codes, np.array([0, 1, 2, 3], np.int32))
    assert len(hist.na_as_value().pooled().counts) == 2
    assert hist.regrouped(np.array([0, 0, 1, 1], np.int32)).n_groups == 2
    assert hist.scaled(0.5).total == 2.0


def test_bad_histograms_are_refused():
    hist = histogram(np.zeros((2, 2), np.int8))
    with pytest.raises(ValueError, match="factor"):
        hist.scaled(0.0)
    with pytest.raises(ValueError, match="2 and 3 members"):
        hist + histogram(np.zeros((2, 3), np.int8))
    with pytest.raises(ValueError, match="groups has shape"):
        histogram(np.zeros((2, 3), np.int8), np.zeros(3, np.int32))

# SPDX-License-Identifier: Apache-2.0
"""Histograms from columns: as in memory whatever the layout; bad files are named; memory is bounded."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pa = pytest.importorskip("pyarrow", reason="reads Parquet: pip install 'quorum[arrow]'", exc_type=ImportError)

import pyarrow.parquet as pq  # noqa: E402

from quorum.learning import learn, learn_statistic  # noqa: E402
from quorum.votes import Cell, VotesError, build_table, read_votes, write_votes  # noqa: E402
from quorum.votes.stream import read_statistic, read_statistic_ray  # noqa: E402

WHEN = datetime(2024, 5, 1, tzinfo=UTC)
VALUES = [None, "n/a", "red", "blue", "Größe 4", "x" * 300]
MEMBERS = ["a", "b", "c", "d"]


def random_table(seed, products=40):
    rng = np.random.default_rng(seed)

    def pick(size=None):
        return [VALUES[i] for i in rng.integers(0, len(VALUES), size)]

    cells = []
    for p in range(products):
        for attribute in ("colour", "size", "brand")[: rng.integers(1, 4)]:
            gold = tuple(dict.fromkeys(v for v in pick(rng.integers(0, 4)) if v))
            cells.append(Cell(f"p{p}", f"cat{p % 3}" if p % 4 else "", "t", attribute, tuple(pick(4)), gold))
    return build_table(MEMBERS, cells)


def assert_equal(left, right):
    assert (left.members, left.groups, left.products) == (right.members, right.groups, right.products)
    for name in ("codes", "groups", "right", "counts"):
        assert np.array_equal(getattr(left.hist, name), getattr(right.hist, name)), name
        assert np.array_equal(getattr(left.gold, name), getattr(right.gold, name)), name
    assert (left.scored is None) == (right.scored is None)
    if left.scored and right.scored:
        for name in ("codes", "groups", "right", "counts", "levels"):
            assert np.array_equal(getattr(left.scored, name), getattr(right.scored, name)), name
        assert np.array_equal(left.gold.levels, right.gold.levels)
    assert (left.text is None) == (right.text is None)
    if left.text and right.text:
        for name in ("codes", "groups", "right", "counts", "levels"):
            assert np.array_equal(getattr(left.text.hist, name), getattr(right.text.hist, name)), name
        assert np.array_equal(left.text.features, right.text.features, equal_nan=True)


@pytest.mark.parametrize("batch_rows", [1, 7, 65536])
@pytest.mark.parametrize("group_rows", [3, 1000])
def test_the_same_statistic_as_in_memory(tmp_path, batch_rows, group_rows):
    table = random_table(0)
    write_votes(table, tmp_path / "v.parquet", row_group_rows=group_rows)
    assert_equal(read_statistic(tmp_path / "v.parquet", batch_rows=batch_rows), table.statistic())


@pytest.mark.parametrize("batch_rows", [1, 7, 65536])
@pytest.mark.parametrize("name", ["v.parquet", "v.arrow", "v.jsonl"])
def test_the_same_levels_of_scores_as_in_memory(tmp_path, batch_rows, name):
    rng, cells = np.random.default_rng(5), []
    for i, cell in enumerate(random_table(1).cells):
        scores = -rng.exponential(2.0, 4).astype(np.float32)
        known = tuple(None if rng.random() < 0.3 else score for score in scores.tolist())
        cells.append(replace(cell, scores=known if i % 5 else ()))
    table = build_table(MEMBERS, cells)
    write_votes(table, tmp_path / name, row_group_rows=16)
    statistic = read_statistic(tmp_path / name, batch_rows=batch_rows)
    assert_equal(statistic, table.statistic())
    assert len(np.unique(statistic.scored.levels)) > 5


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1))
def test_the_same_statistic_for_any_votes(tmp_path, seed):
    table = random_table(seed, 8)
    write_votes(table, tmp_path / "v.parquet")
    assert_equal(read_statistic(tmp_path / "v.parquet", batch_rows=5), table.statistic())


def test_real_votes_give_the_same_weights(tmp_path, recorded_votes):
    table = read_votes(recorded_votes)
    write_votes(table, tmp_path / "v.parquet")
    streamed = read_statistic(tmp_path / "v.parquet", batch_rows=100)
    assert_equal(streamed, table.statistic())
    for method in ("em", "loglinear"):
        a, b = learn(table, method, created=WHEN), learn_statistic(streamed, method, created=WHEN)
        assert (a.default, a.attributes, a.groups) == (b.default, b.attributes, b.groups)


def test_several_files_members_in_another_order_and_arrow(tmp_path):
    table = random_table(1)
    half = len(table) // 2
    while table.cells[half].product == table.cells[half - 1].product:
        half += 1
    first, second = table.take(range(half)), table.take(range(half, len(table)))
    write_votes(first, tmp_path / "1.parquet")
    write_votes(second, tmp_path / "2.parquet")
    columns = pq.read_table(tmp_path / "2.parquet")
    columns = columns.select(list(reversed(columns.column_names)))
    with pa.OSFile(str(tmp_path / "2.arrow"), "wb") as sink, pa.ipc.new_file(sink, columns.schema) as writer:
        writer.write_table(columns, max_chunksize=4)
    assert_equal(read_statistic([tmp_path / "1.parquet", tmp_path / "2.arrow"]), table.statistic())


def test_encoded_and_large_texts_and_gold_as_text(tmp_path):
    table = random_table(2)
    write_votes(table, tmp_path / "v.parquet")
    columns = pq.read_table(tmp_path / "v.parquet")
    gold = [cell.gold[0] if cell.gold else None for cell in table.cells]
    changed = {
        "product": columns["product"],
        "category": columns["category"].dictionary_encode(),
        "attribute": columns["attribute"].cast(pa.large_string()),
        "title": columns["title"].dictionary_encode(),
        "a": columns["a"].dictionary_encode(),
        "b": columns["b"].cast(pa.large_string()),
        "c": columns["c"],
        "d": columns["d"],
        "gold": pa.array(gold, pa.string()),
    }
    pq.write_table(pa.table(changed), tmp_path / "w.parquet", row_group_size=10)
    cells = [replace(cell, gold=cell.gold[:1]) for cell in table.cells]
    assert_equal(read_statistic(tmp_path / "w.parquet"), build_table(MEMBERS, cells).statistic())
    subset = read_statistic(tmp_path / "w.parquet", members=["c", "a"])
    swapped = [replace(cell, values=(cell.values[2], cell.values[0])) for cell in cells]
    assert_equal(subset, build_table(["c", "a"], swapped).statistic())


def test_without_category_and_gold(tmp_path):
    pq.write_table(
        pa.table({
            "product": ["p", "p", "q"], "attribute": ["a", "b", "a"], "m": ["x", None, "n/a"], "n": ["x"] * 3,
        }),
        tmp_path / "v.parquet",
    )  # fmt: skip
    statistic = read_statistic(tmp_path / "v.parquet")
    assert (statistic.members, statistic.groups) == (("m", "n"), (("", "a"), ("", "b")))
    assert statistic.hist.codes.tolist() == [[0, 1], [1, 1], [-1, 1]]
    assert (statistic.hist.right == -1).all()
    assert statistic.products == 2


GOOD = {"product": ["p", "q"], "attribute": ["a", "a"], "gold": [["x"], []], "m": ["x", "y"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"product": ["p", ""]}, r"v\.parquet, row 2: no product"),
        ({"attribute": [None, "a"]}, r"v\.parquet, row 1: no attribute"),
        ({"m": ["x", ""]}, r"v\.parquet, row 2: column 'm' holds an empty text"),
        ({"m": [1, 2]}, r"v\.parquet: column 'm' is int64; text is needed"),
        ({"gold": [["x"], [None]]}, r"v\.parquet, row 2: `gold` holds null"),
        ({"gold": [["x", ""], []]}, r"v\.parquet, row 1: `gold` holds null or an empty"),
        ({"gold": [1, 2]}, r"column 'gold' is int64"),
        ({"product": None}, r"columns \['product'\] are missing"),
        ({"m": None}, r"members must be 1 to 18 distinct columns"),
    ],
)
@pytest.mark.parametrize("batch_rows", [1, 10])
def test_a_bad_file_is_named(tmp_path, change, message, batch_rows):
    columns = {name: value for name, value in (GOOD | change).items() if value is not None}
    pq.write_table(pa.table(columns), tmp_path / "v.parquet")
    with pytest.raises(VotesError, match=message):
        read_statistic(tmp_path / "v.parquet", batch_rows=batch_rows)


def pairs(path, cells):
    names = [("product", [p for p, _ in cells]), ("attribute", [a for _, a in cells])]
    pq.write_table(pa.table(dict(names) | {"m": ["x"] * len(cells)}), path, row_group_size=7)
    return path


@pytest.mark.parametrize("batch_rows", [1, 4, 1000])
@pytest.mark.parametrize(("first", "second"), [(0, 1), (3, 90), (50, 199)])
def test_a_cell_that_stands_twice_is_named_wherever_it_stands(tmp_path, batch_rows, first, second):
    cells = [(f"p{i // 3}", f"a{i % 3}") for i in range(200)]
    cells[second] = cells[first]
    path = pairs(tmp_path / "v.parquet", cells)
    words = (
        rf"v\.parquet, row {second + 1}: product '{cells[first][0]}', attribute '{cells[first][1]}' stood "
    )
    with pytest.raises(VotesError, match=words + rf"in .*v\.parquet, row {first + 1} already"):
        read_statistic(path, batch_rows=batch_rows)
    parts = [pairs(tmp_path / "1.parquet", cells[:40]), pairs(tmp_path / "2.parquet", cells[40:])]
    place = lambda row: rf"{1 + (row >= 40)}\.parquet, row {row + 1 - 40 * (row >= 40)}"  # noqa: E731
    with pytest.raises(VotesError, match=rf"{place(second)}: .* stood in .*{place(first)} already"):
        read_statistic(parts, batch_rows=batch_rows)


def test_product_and_attribute_are_not_confused_and_equal_digests_are_looked_at(tmp_path, monkeypatch):
    cells = [("ab", "c"), ("a", "bc"), ("c", "ab"), ("bc", "a")]
    assert read_statistic(pairs(tmp_path / "v.parquet", cells)).hist.total == 4
    monkeypatch.setattr("quorum.votes.duplicates.digest", lambda text, kind: 1)
    assert read_statistic(tmp_path / "v.parquet").hist.total == 4
    with pytest.raises(VotesError, match=r"row 5: product 'a', attribute 'bc' stood in .*, row 2 already"):
        read_statistic(pairs(tmp_path / "v.parquet", [*cells, ("a", "bc")]))


def test_what_is_no_file_of_votes(tmp_path):
    (tmp_path / "v.parquet").write_text("product,attribute")
    with pytest.raises(VotesError, match="cannot be read as Parquet or Arrow"):
        read_statistic(tmp_path / "v.parquet")
    with pytest.raises(VotesError, match="absent"):
        read_statistic(tmp_path / "absent.arrow")
    with pytest.raises(VotesError, match="no file of votes"):
        read_statistic([])
    pq.write_table(pa.table(GOOD).slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(VotesError, match="no votes"):
        read_statistic(tmp_path / "empty.parquet")
    with pytest.raises(VotesError, match=r"\['gold'\] are columns with another meaning"):
        read_statistic(tmp_path / "empty.parquet", members=["gold"])
    with pytest.raises(VotesError, match="other names"):
        write_votes(build_table(["title"], [Cell("p", "", "", "a", ("x",))]), tmp_path / "w.parquet")


_PEAK = """
import json, resource, sys
from quorum.votes.stream import read_statistic
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
cells = read_statistic(sys.argv[1], batch_rows=16384).hist.total
print(json.dumps([cells, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path):
    rng = np.random.default_rng(0)
    words = np.array([f"value number {i}" for i in range(2000)])
    peaks = {}
    for parts in (2, 16):
        path = tmp_path / f"{parts}.parquet"
        with pq.ParquetWriter(
            path, pa.schema([(n, pa.string()) for n in ("product", "attribute", *MEMBERS)])
        ) as out:
            for part in range(parts):
                n = 1 << 16
                rows = np.arange(n) + part * n
                columns = [[f"p{i // 5}" for i in rows], [f"a{i % 5}" for i in rows]]
                columns += [pa.array(words[rng.integers(0, 2000, n)]) for _ in MEMBERS]
                out.write_table(pa.table(columns, schema=out.schema))
        done = subprocess.run([sys.executable, "-c", _PEAK, path], capture_output=True, text=True, check=True)
        cells, peaks[parts] = json.loads(done.stdout)
        assert cells == parts << 16
    # A million rows take some 100 MB more than an eighth of them if they are all held.
    assert peaks[16] - peaks[2] < 30_000


def test_ray_adds_up_the_same(tmp_path):
    pytest.importorskip("ray", reason="reduces over a cluster: pip install 'quorum[ray]'")
    table = random_table(3)
    for i in range(4):
        write_votes(table.take(range(i, len(table), 4)), tmp_path / f"{i}.parquet")
    paths = sorted(tmp_path.glob("*.parquet"))
    total, plain = read_statistic_ray(paths), read_statistic(paths)
    assert total.groups == plain.groups == table.statistic().groups
    assert np.array_equal(total.hist.counts, table.statistic().hist.counts)
    assert np.array_equal(total.hist.codes, table.statistic().hist.codes)
    pq.write_table(pa.table(GOOD | {"m": ["", "x"]}), tmp_path / "bad.parquet")
    with pytest.raises(VotesError, match=r"bad\.parquet, row 1"):
        read_statistic_ray([tmp_path / "bad.parquet"])


def test_without_ray_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    write_votes(random_table(4), tmp_path / "v.parquet")
    with pytest.raises(VotesError, match=r"quorum\[ray\]"):
        read_statistic_ray(tmp_path / "v.parquet")

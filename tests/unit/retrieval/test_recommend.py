# SPDX-License-Identifier: Apache-2.0
"""Keyphrases for items equal an exact search of all of them, filtered afterwards."""

from __future__ import annotations

import dataclasses
import itertools
import random
import struct
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from support.retrievers import WORDS, Encoder, write_version

from quorum.retrieval.encode import TextEncoder
from quorum.retrieval.filters import far_apart, first_of_each, normal_form, read_blocklist
from quorum.retrieval.manifest import ManifestError, RetrieverManifest, read_retriever
from quorum.retrieval.recommend import Asked, Recommended, Recommender
from quorum.retrieval.vectors import cut
from quorum.runtimes.onnx_network import Floats, Network, Tokens, open_onnx

pytestmark = pytest.mark.skipif(not find_spec("onnx"), reason="needs onnx: run `make setup-tune`")

DRAW = random.Random(7)
CATEGORIES: list[list[str]] = [[], ["Shoes"], ["Clothes", "shoes "], ["Desks"]]
KEYPHRASES = {
    " ".join(words): CATEGORIES[number % 4]
    for number, words in enumerate(DRAW.sample([*itertools.permutations(WORDS, 2)], 300))
}
ENCODER = Encoder()
ITEM = "red running shoe for men"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_version(tmp_path_factory.mktemp("version"), KEYPHRASES, ENCODER)


@pytest.fixture(scope="module")
def recommender(folder: Path) -> Recommender:
    return Recommender.open(folder, read_retriever(folder))


def ask(recommender: Recommender, *items: Asked) -> list[Recommended]:
    return recommender.recommend(items, ENCODER.items)


def exact(item: Asked, blocked: Sequence[str] = ()) -> list[str]:
    """All of them in the order of the cosine, then those that pass."""
    scores = ENCODER.keyphrases([*KEYPHRASES]) @ ENCODER.items([item.text])[0]
    found: dict[str, str] = {}
    for row in np.argsort(-scores, kind="stable").tolist():
        text, names = [*KEYPHRASES.items()][row]
        fits = not item.category or not names or item.category in [n.strip().lower() for n in names]
        if fits and scores[row] >= item.min_score and text not in blocked:
            found.setdefault(normal_form(text), text)
    return [*found.values()][: item.limit]


@pytest.mark.parametrize("limit", [1, 7, 100])
@pytest.mark.parametrize("category", ["", "shoes", "desks", "none such"])
@pytest.mark.parametrize("least", [-1.0, 0.5, 1.0])
def test_answers_are_those_of_an_exact_search(
    recommender: Recommender, limit: int, category: str, least: float
) -> None:
    asked = Asked(ITEM, category, limit, least)
    (found,) = ask(recommender, asked)
    assert found.keyphrases == exact(asked)
    assert sorted(found.scores, reverse=True) == found.scores
    assert all(least <= score <= 1 for score in found.scores)


def test_an_answer_does_not_depend_on_the_others(recommender: Recommender) -> None:
    items = [
        Asked(f"{first} {second}", category, limit, -1.0)
        for first, second, category, limit in zip(
            WORDS, reversed(WORDS), ["", "shoes", "desks"] * 10, [1, 100, 20] * 10, strict=False
        )
    ]
    together = ask(recommender, *items)
    assert [found.keyphrases for found in together] == [exact(item) for item in items]


def test_a_category_that_few_have_is_searched_for_to_the_end(recommender: Recommender) -> None:
    (found,) = ask(recommender, Asked(ITEM, "DESKS", 100, -1.0))
    assert len(found.keyphrases) == 100
    assert {tuple(KEYPHRASES[text]) for text in found.keyphrases} == {(), ("Desks",)}


@pytest.mark.parametrize("index", ["exact", "usearch"])
def test_a_category_that_very_few_have_is_searched_alone(tmp_path: Path, index: str) -> None:
    keyphrases = {text: ["Common"] for text in KEYPHRASES}
    rare = [*KEYPHRASES][::50]
    write_version(
        tmp_path, keyphrases | {text: ["Common", "Rare  one", "rare ONE"] for text in rare}, ENCODER
    )
    manifest = graph(tmp_path, "cos", "f32") if index == "usearch" else read_retriever(tmp_path)
    blocked = tmp_path / "blocked.txt"
    blocked.write_text(rare[0], "utf-8")
    recommender = Recommender.open(tmp_path, manifest, blocked)
    scores = ENCODER.keyphrases(rare[1:]) @ ENCODER.items([ITEM])[0]
    wanted = [rare[1:][at] for at in np.argsort(-scores, kind="stable").tolist()]
    items = [Asked(ITEM, category, 20, -1.0) for category in ("rare one", "none such", "common", "RARE one")]
    one, none, common, other = ask(recommender, *items)
    assert one.keyphrases == other.keyphrases == wanted
    assert none == Recommended([], [])
    assert len(common.keyphrases) == 20
    assert ask(recommender, Asked(ITEM, "rare one", 2, -1.0))[0].keyphrases == wanted[:2]


class Searched:
    """An index that notes how deep it was searched."""

    def __init__(self, index: Any) -> None:
        self._index, self.depths = index, list[int]()
        self.vectors = index.vectors

    def __call__(self, vectors: Any, k: int) -> Any:
        self.depths.append(k)
        return self._index(vectors, k)


@pytest.fixture
def uneven(tmp_path: Path) -> tuple[Recommender, Searched]:
    """One keyphrase in twelve has the category "far": those that fit the item least."""
    names = [*KEYPHRASES]
    scores = ENCODER.keyphrases(names) @ ENCODER.items([ITEM])[0]
    far = {names[row] for row in np.argsort(scores)[:25]}
    write_version(tmp_path, {name: ["far" if name in far else "near"] for name in names}, ENCODER)
    opened = Recommender.open(tmp_path, read_retriever(tmp_path))
    index = Searched(opened.index)
    return dataclasses.replace(opened, index=index), index


def test_a_rare_category_does_not_hold_up_the_others(uneven: tuple[Recommender, Searched]) -> None:
    recommender, index = uneven
    items = [Asked(ITEM, "far", 5, -1.0), Asked(ITEM, "near", 5, -1.0), Asked("blue desk", "", 20, -1.0)]
    found = list(recommender.each(items, ENCODER.items))
    assert [at for at, _ in found] == [1, 2, 0]
    assert index.depths == sorted(index.depths)
    assert index.depths[-1] >= 160
    assert len(found[-1][1].keyphrases) == 5


def test_nobody_waits_for_an_item_whose_time_is_up(uneven: tuple[Recommender, Searched]) -> None:
    recommender, index = uneven
    items = [Asked(ITEM, "far", 5, -1.0), Asked("blue desk", "", 100, -1.0)]
    found = dict(recommender.each(items, ENCODER.items, lambda at: at == 0 and len(index.depths) >= 2))
    assert found.keys() == {1}
    assert index.depths.count(10) == 1
    assert max(index.depths) <= 800


def test_blocked_keyphrases_do_not_starve_an_answer(folder: Path, tmp_path: Path) -> None:
    best = exact(Asked(ITEM, "", 60, -1.0))
    path = tmp_path / "blocked.txt"
    path.write_text("\ufeff" + "\n".join([*(f"  {text.upper()}!" for text in best[:50]), "", "unheard of"]))
    recommender = Recommender.open(folder, read_retriever(folder), path)
    asked = Asked(ITEM, "", 10, -1.0)
    blocked = [text for text in KEYPHRASES if normal_form(text) in read_blocklist(path)]
    assert ask(recommender, asked)[0].keyphrases == exact(asked, blocked)
    assert not {*best[:50]} & {*ask(recommender, asked)[0].keyphrases}


def test_one_of_those_that_are_nearly_the_same_is_kept(folder: Path) -> None:
    near = 0.95
    recommender = Recommender.open(folder, read_retriever(folder), None, near)
    (found,) = ask(recommender, Asked(ITEM, "", 50, -1.0))
    vectors = ENCODER.keyphrases(found.keyphrases)
    cosines = vectors @ vectors.T - np.eye(len(vectors))
    assert len(found.keyphrases) == 50
    assert cosines.max() < near
    # "red shoe" and "shoe red" have one vector, so that some are left out.
    assert found.keyphrases != exact(Asked(ITEM, "", 50, -1.0))


def test_an_item_without_a_vector_gets_nothing(recommender: Recommender) -> None:
    zero = np.zeros((1, 8), np.float32)
    assert recommender.recommend([Asked("?", "", 5, -1.0)], lambda texts: zero) == [Recommended((), ())]
    nan = np.full((1, 8), np.nan, np.float32)
    assert recommender.recommend([Asked("?", "", 5, -1.0)], lambda texts: nan) == [Recommended((), ())]


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_the_encoder_reads_whole_texts_of_a_batch(folder: Path, engine: str) -> None:
    pytest.importorskip(engine)
    encoder = TextEncoder(folder, engine, max_batch=3)  # type: ignore[arg-type]
    texts = ["red", " ".join(WORDS), "red \n shoe unheard", "blue blue", "\0", "lamp " * 60]
    found = encoder.items(texts)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    np.testing.assert_allclose(found / lengths, ENCODER.items(texts), atol=1e-5)


def test_an_index_of_fewer_dimensions_is_searched_by_cut_vectors(tmp_path: Path) -> None:
    write_version(tmp_path, KEYPHRASES, ENCODER, dims=4)
    recommender = Recommender.open(tmp_path, read_retriever(tmp_path))
    (found,) = ask(recommender, Asked(ITEM, "", 5, -1.0))
    scores = ENCODER.keyphrases([*KEYPHRASES], 4) @ ENCODER.items([ITEM], 4)[0]
    assert found.scores == pytest.approx(sorted(scores.tolist(), reverse=True)[:5], abs=1e-6)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"dims": 4}, "has 300 vectors of 8 dimensions, retriever.json says 300 of 4"),
        ({"keyphrases": 299}, "has 300 vectors of 8 dimensions, retriever.json says 299 of 8"),
        ({"index": "usearch"}, "vectors.usearch"),
    ],
)
def test_a_version_whose_parts_do_not_fit_is_refused(
    folder: Path, changed: dict[str, object], words: str
) -> None:
    stated = read_retriever(folder)
    fields = {name: getattr(stated, name) for name in stated.__struct_fields__} | changed
    with pytest.raises(ManifestError, match=words):
        Recommender.open(folder, RetrieverManifest(**fields))


def test_keyphrases_of_other_columns_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_version(tmp_path, KEYPHRASES, ENCODER)
    pq.write_table(pa.table({"keyphrase": ["a"]}), tmp_path / "keyphrases.parquet")
    with pytest.raises(ManifestError, match=r"keyphrases\.parquet: cannot be read .*make the version again"):
        Recommender.open(tmp_path, read_retriever(tmp_path))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Running Shoes", "running  shoe"),
        ("men's boots", "mens boot"),
        ("T-shirt dresses", "t shirt dress"),
        ("ﬁtness bag", "FITNESS bags!"),
        ("batteries", "battery"),
        ("watches & boxes", "watch box"),
        ("wire\u200bless char\u00adger", "wireless charger"),
        ("\ufeffred\u202e shoe\u200d", "red shoe"),
        ("cafe\u200d\u0301", "café"),
    ],
)
def test_spellings_of_one_keyphrase_have_one_form(one: str, other: str) -> None:
    assert normal_form(one) == normal_form(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("shirt dress", "dress shirt"),
        ("c++ book", "c# book"),
        ("gas", "ga"),
        ("glass", "glas"),
        ("कि", "का"),
        ("!!", "??"),
        ("3.5 mm", "35 mm"),
    ],
)
def test_different_keyphrases_have_different_forms(one: str, other: str) -> None:
    assert normal_form(one) != normal_form(other)


@given(st.text())
def test_a_form_is_its_own_form_once_it_is_reached(text: str) -> None:
    once = normal_form(text)
    assert normal_form(f"  {text}\n") == once


@given(st.lists(st.integers(0, 5), max_size=20))
def test_the_first_of_each_form_is_kept(forms: list[int]) -> None:
    kept = first_of_each(np.array(forms, np.int32))
    assert [form for form, keep in zip(forms, kept, strict=True) if keep] == [*dict.fromkeys(forms)]


def test_no_more_than_wanted_are_compared() -> None:
    vectors = np.eye(6, dtype=np.float32)
    assert far_apart(vectors, 0.9, 4).tolist() == [True] * 4 + [False] * 2
    assert far_apart(np.repeat(vectors[:1], 6, 0), 0.9, 4).tolist() == [True] + [False] * 5


def graph(folder: Path, metric: str, dtype: str) -> RetrieverManifest:
    """Write a graph beside the vectors of a version; its manifest."""
    usearch = pytest.importorskip("usearch.index", reason="needs usearch")
    vectors = np.load(folder / "vectors.npy")
    index = usearch.Index(ndim=vectors.shape[1], metric=metric, dtype=dtype)
    index.add(np.arange(len(vectors), dtype=np.uint64), vectors)
    index.save(str(folder / "vectors.usearch"))
    return replace(read_retriever(folder), index="usearch")


@pytest.mark.parametrize(
    ("metric", "dtype", "near", "share"),
    [("ip", "f32", 1e-5, 1.0), ("cos", "f16", 2e-3, 0.95), ("cos", "i8", 2e-2, 0.8)],
)
def test_a_graph_finds_what_an_exact_search_does(
    folder: Path, metric: str, dtype: str, near: float, share: float
) -> None:
    recommender = Recommender.open(folder, graph(folder, metric, dtype))
    asked = [Asked(ITEM, "desks", 20, -1.0), Asked("blue case", "", 100, -1.0), Asked("red", "", 5, 0.5)]
    exactly = Recommender.open(folder, read_retriever(folder))
    for found, wanted in zip(ask(recommender, *asked), ask(exactly, *asked), strict=True):
        assert len({*found.keyphrases} & {*wanted.keyphrases}) >= share * len(wanted.keyphrases)
        assert found.scores[:5] == pytest.approx(wanted.scores[:5], abs=near)


def test_inner_products_of_whole_numbers_are_refused(folder: Path) -> None:
    with pytest.raises(ManifestError, match="expected is the cosine"):
        Recommender.open(folder, graph(folder, "ip", "i8"))


def test_a_graph_that_is_cut_off_or_none_is_refused(folder: Path, tmp_path: Path) -> None:
    manifest = graph(folder, "cos", "f32")
    for content in (b"", b"no graph at all", (folder / "vectors.usearch").read_bytes()[:900]):
        (tmp_path / "vectors.usearch").write_bytes(content)
        with pytest.raises(ManifestError, match=r"vectors\.usearch"):
            Recommender.open(tmp_path, manifest)


def test_texts_of_unlike_lengths_are_computed_without_much_padding(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, int]] = []

    def opened(*arguments: Any) -> Network:
        network = open_onnx(*arguments)

        def compute(ids: Tokens, mask: Tokens, output: str) -> Floats:
            shapes.append((ids.shape[0], ids.shape[1]))
            return network.compute(ids, mask, output)

        return network._replace(compute=compute)

    monkeypatch.setattr("quorum.retrieval.encode.open_onnx", opened)
    texts = [" ".join(DRAW.choices(WORDS, k=DRAW.choice([2, 3, 9, 10, 40]))) for _ in range(100)]
    found = TextEncoder(folder, max_batch=32).items(texts)
    assert cut(found, 8) == pytest.approx(ENCODER.items(texts), abs=1e-5)
    words = sum(len(text.split()) for text in texts)
    assert sum(rows * length for rows, length in shapes) <= words + 16 * len(shapes)
    assert len(shapes) <= 10
    assert max(rows for rows, _ in shapes) > 10


def test_a_graph_that_crashes_its_reader_is_refused(folder: Path) -> None:
    """Links of the graph lead outside of it: searched in this process, that would end it."""
    manifest = graph(folder, "ip", "f32")
    path = folder / "vectors.usearch"
    sound = path.read_bytes()
    content = bytearray(sound)
    for key in range(1, len(KEYPHRASES)):
        # A node of the lowest level: key, level, number of links, links; vectors stand before all nodes.
        at = sound.find(struct.pack("<Qh", key, 0), len(KEYPHRASES) * 8 * 4)
        links = struct.unpack_from("<I", sound, at + 10)[0] if at > 0 else 0
        for number in range(links if links <= 64 else 0):
            struct.pack_into("<I", content, at + 14 + 4 * number, 0x7FFFFFF0)
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"cannot be read \(a trial search crashed: SIGSEGV\); make the"):
        Recommender.open(folder, manifest)
    path.unlink()


def test_a_graph_whose_nodes_are_no_nodes_is_refused(folder: Path) -> None:
    manifest = graph(folder, "ip", "f32")
    path = folder / "vectors.usearch"
    content = path.read_bytes()
    path.write_bytes(content[:13_000] + b"\xff" * (len(content) - 13_000))
    with pytest.raises(ManifestError, match=r"cannot be read \(a trial search "):
        Recommender.open(folder, manifest)
    path.unlink()

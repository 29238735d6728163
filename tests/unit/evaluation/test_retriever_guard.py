# SPDX-License-Identifier: Apache-2.0
"""Agreement and recall of two versions on held-out pairs, against a plain reckoning over all keyphrases."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from support.retrievers import WORDS, Encoder, write_version

from quorum.evaluation.retriever_guard import Encoders, K, compare_retrievers
from quorum.retrieval.encode import TextEncoder
from quorum.retrieval.judged import JudgedPair, gather

ASKED = ("red shoes", "wool jacket", "phone case", "trail running", "leather wallet for men")


def pairs() -> list[JudgedPair]:
    rng = np.random.default_rng(3)
    items = [" ".join(rng.choice(WORDS, 3)) for _ in range(12)]
    return [
        JudgedPair(
            item=f"i{row}",
            text=text,
            keyphrase=keyphrase,
            label=float(label),
            value="relevant" if label >= 0.5 else "irrelevant",
            confidence=1.0,
        )
        for (row, text), keyphrase in itertools.product(enumerate(items), ASKED)
        for label in [rng.random()]
    ]


def opened(folder: Path) -> Encoders:
    encoder = TextEncoder(folder)
    return Encoders(encoder, encoder)


def plain(encoder: Encoder, index: list[str], dims: int) -> tuple[float, float]:
    """Agreement and recall by one sort over all keyphrases."""
    judged = pairs()
    texts = {pair.item: pair.text for pair in judged}
    names = list(dict.fromkeys([*ASKED, *index]))
    vectors = encoder.keyphrases(names, dims)
    cosines, labels, hits = [], [], []
    for pair in judged:
        own = vectors @ encoder.items([texts[pair.item]], dims)[0]
        cosines.append(own[names.index(pair.keyphrase)])
        labels.append(pair.label)
        if pair.label >= 0.5:
            hits.append(pair.keyphrase in [names[row] for row in np.argsort(-own, kind="stable")[:K]])
    return float(np.corrcoef(cosines, labels)[0, 1]), float(np.mean(hits))


def test_figures_are_those_of_a_search_through_all_keyphrases(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    # Some of the held-out keyphrases are the versions' own, too.
    index = list(dict.fromkeys([*ASKED[:2], *(" ".join(rng.choice(WORDS, 2)) for _ in range(40))]))
    shorter = index[:25]
    sides = [(Encoder(1), index, 8), (Encoder(2), shorter, 4)]
    folders = [
        write_version(tmp_path / str(n), {text: [] for text in own}, encoder, dims)
        for n, (encoder, own, dims) in enumerate(sides)
    ]
    notes: list[str] = []
    found = compare_retrievers(*folders, gather(pairs()), (0.02, 0.02), opened, notes.append)
    (agreement, recall), (other_agreement, other_recall) = (plain(*side) for side in sides)
    assert found.agreement == pytest.approx(agreement, abs=1e-4)
    assert found.agreement_running == pytest.approx(other_agreement, abs=1e-4)
    assert (found.recall, found.recall_running) == (pytest.approx(recall), pytest.approx(other_recall))
    assert 0 < recall < 1
    assert found.recall_change.value == pytest.approx(recall - other_recall)
    assert found.recall_change.low <= found.recall_change.value <= found.recall_change.high
    assert any("encoding" in note for note in notes)
    same = compare_retrievers(folders[0], folders[0], gather(pairs()), (0.0, 0.0), opened, notes.append)
    assert (same.agreement_change.low, same.agreement_change.high, same.warning) == (0, 0, "")


def test_spellings_of_a_held_out_keyphrase_are_it(tmp_path: Path) -> None:
    """Not others beside it, which would take its place among the nearest."""
    rng = np.random.default_rng(1)
    others = list(dict.fromkeys(" ".join(rng.choice(WORDS, 2)) for _ in range(30)))
    index = dict.fromkeys([*(text.replace(" ", "  ") for text in ASKED), *others], ())
    folder = write_version(tmp_path / "1", index, Encoder(1))
    found = compare_retrievers(folder, folder, gather(pairs()), (0.0, 0.0), opened, lambda _: None)
    assert found.recall == pytest.approx(plain(Encoder(1), others, 8)[1])
    assert found.recall > plain(Encoder(1), [*index], 8)[1]


def test_each_vector_is_of_the_precision_that_serves_it(tmp_path: Path) -> None:
    """Items by the serving encoder, keyphrases by that of the index: swapped, other figures come out."""
    folder = write_version(tmp_path / "1", dict.fromkeys(ASKED, ()), Encoder(1))
    Encoder(2).write(tmp_path / "2")
    mixed = Encoders(TextEncoder(folder), TextEncoder(tmp_path / "2"))
    found = compare_retrievers(folder, folder, gather(pairs()), (0.0, 0.0), lambda _: mixed, lambda _: None)
    judged = pairs()
    items = Encoder(1).items([pair.text for pair in judged])
    keyphrases = Encoder(2).keyphrases([pair.keyphrase for pair in judged])
    wanted = np.corrcoef((items * keyphrases).sum(1), [pair.label for pair in judged])[0, 1]
    assert found.agreement == pytest.approx(wanted, abs=1e-4)


def test_pairs_of_one_label_compare_nothing(tmp_path: Path) -> None:
    folder = write_version(tmp_path / "1", {"red shoes": []}, Encoder())
    one = gather([pair for pair in pairs() if pair.label < 0.5])
    with pytest.raises(ValueError, match="needs relevant and irrelevant pairs"):
        compare_retrievers(folder, folder, one, (0.02, 0.02), opened, lambda _: None)

# SPDX-License-Identifier: Apache-2.0
"""Splits without leaks, targets of signals, mined pairs, and what is refused before anything trains."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quorum.distill.figures import Rated, held_out_of
from quorum.distill.lessons import DistillSources, gather_material, pairs_of
from quorum.distill.mine import mine, random_pairs
from quorum.distill.options import DistillOptionError, DistillOptions
from quorum.distill.signals import click_targets, relevance_targets
from quorum.distill.sources import Clicks, SourceError, read_keyphrases, read_rows
from quorum.distill.split import keys_of, same_key, split_by_keyphrase, split_from_file
from quorum.retrieval.judged import Judged, JudgedError, JudgedPair, gather
from quorum.tune.data import TrainingDataError

HERE = Path("judged.jsonl")


def judged(queries: int = 20, items: int = 3, **columns: float) -> Judged:
    """Pairs of every query and item; even items are relevant."""
    return gather(
        JudgedPair(
            item=f"i{item}",
            text=f"thing {item}",
            keyphrase=f"query {query}",
            label=float(item % 2 == 0),
            value="yes",
            confidence=0.9,
            **columns,
        )
        for query in range(queries)
        for item in range(items)
    )


def test_no_keyphrase_is_on_two_sides() -> None:
    found = split_by_keyphrase(HERE, judged(), 0.2, 3)
    parts = [keys_of(part) for part in found]
    assert [len(part) for part in parts] == [14, 2, 4]
    assert len(set().union(*parts)) == 20
    assert sum(map(len, found)) == 60
    assert found.secret == parts[1] | parts[2]
    again = split_by_keyphrase(HERE, judged(), 0.2, 3)
    assert keys_of(again.held_out) == parts[2]
    assert keys_of(split_by_keyphrase(HERE, judged(), 0.2, 4).held_out) != parts[2]


def test_spellings_of_one_keyphrase_stay_together() -> None:
    pairs = [
        JudgedPair(item="a", text="a", keyphrase=k, label=0.5, value="1", confidence=1)
        for number in range(15)
        for k in (f"red {number}", f"  Red   {number} ")
    ]
    for seed in range(5):
        found = split_by_keyphrase(HERE, gather(pairs), 0.3, seed)
        assert not keys_of(found.train) & keys_of(found.held_out)
        assert len(found.held_out) == 2 * len(keys_of(found.held_out))


def test_too_few_keyphrases_are_refused() -> None:
    with pytest.raises(JudgedError, match="12 different keyphrases; 3 are held out, and 10 are needed"):
        split_by_keyphrase(HERE, judged(12), 0.2, 0)


def test_leaks_into_an_own_held_out_file_are_refused_with_rows() -> None:
    ours = judged(20)
    other = gather(
        [
            JudgedPair(item="i1", text="thing 1", keyphrase="QUERY 0", label=1, value="y", confidence=1),
            JudgedPair(item="new", text="new", keyphrase="query 5", label=1, value="y", confidence=1),
        ]
    )
    with pytest.raises(JudgedError) as error:
        split_from_file(HERE, ours, Path("held.jsonl"), other, 0)
    message = str(error.value)
    assert "6 pairs are of keyphrases that held.jsonl holds out" in message
    assert "row 1: item 'i0', keyphrase 'query 0': the keyphrase is in row 1 of held.jsonl" in message
    assert "row 2: item 'i1', keyphrase 'query 0': the same pair is row 1 of held.jsonl" in message
    assert "and 1 more" in message
    clean = gather([replace_keyphrase(pair) for pair in [("x", "unseen"), ("y", "unseen")]])
    assert len(split_from_file(HERE, ours, Path("held.jsonl"), clean, 0).held_out) == 2


def replace_keyphrase(pair: tuple[str, str]) -> JudgedPair:
    return JudgedPair(item=pair[0], text=pair[0], keyphrase=pair[1], label=1, value="y", confidence=1)


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_held_out_keyphrases_reach_no_lesson_and_no_pool(tmp_path: Path) -> None:
    pairs = judged()
    split = split_by_keyphrase(HERE, pairs, 0.2, 0)
    secret = sorted(split.secret)
    clicks = write(
        tmp_path / "clicks.jsonl",
        *(
            {"item": "i0", "keyphrase": f"query {n}", "clicks": n % 3, "impressions": 9, "position": 1}
            for n in range(20)
        ),
    )
    relevance = write(
        tmp_path / "relevance.jsonl",
        *({"item": "i1", "keyphrase": f"Query  {n}", "relevance": n} for n in range(20)),
    )
    keyphrases = tmp_path / "keyphrases.txt"
    keyphrases.write_text("\n".join([*secret, secret[0].upper(), "new one"]) + "\n", encoding="utf-8")
    found = gather_material(
        split, DistillSources(clicks, relevance, None, keyphrases), DistillOptions(pool=10)
    )
    names = list(found.rows.keyphrases)
    lessons = (found.judge, *found.others)
    assert [lesson.task for lesson in lessons] == ["judge", "clicks", "relevance"]
    learned = {same_key(names[row]) for lesson in lessons for row in lesson.keyphrases}
    assert not learned & split.secret
    assert not {same_key(names[row]) for row in found.minable} & split.secret
    assert "new one" in [names[row] for row in found.minable]
    assert found.left_out["clicks of held-out keyphrases"] == len(secret)
    # Recall searches among all.
    assert set(secret) <= set(found.candidates)


def test_clicks_are_debiased_by_position() -> None:
    # Half of the looks end in a click at positions 1 and 4: as shown, the second is four times worse.
    found = click_targets(np.array([500.0, 125.0, 0.0]), np.full(3, 1000.0), np.array([1.0, 4.0, 1.0]), 1.0)
    assert found[1] == pytest.approx(found[0], abs=0.01)
    assert found[2] < 0.01
    as_shown = click_targets(np.array([500.0, 125.0]), np.full(2, 1000.0), np.array([1.0, 4.0]), 0.0)
    assert as_shown[1] == pytest.approx(0.25, abs=0.01)
    # One click of one look is no certainty.
    rare = click_targets(np.array([1.0, 50.0]), np.array([1.0, 100.0]), np.ones(2), 1.0)
    assert rare.argmax() == 0
    assert rare[1] > 0.6


def test_scores_compare_within_a_keyphrase_only() -> None:
    found = relevance_targets(np.array([2.0, 1.0, 30.0, 0.0, 0.0]), ["a", "a", "b", "b", "c"])
    assert found.tolist() == [1.0, 0.5, 1.0, 0.0, 0.0]


def test_mined_pairs_are_near_and_middling_and_never_judged() -> None:
    angles = np.linspace(0, np.pi, 200)
    keyphrases = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    items = keyphrases[[0, 199]]
    known = {(0, k) for k in range(8)}
    draws = [mine(items, keyphrases, known, 5, seed) for seed in range(200)]
    pairs = np.concatenate(draws)
    assert not known & {tuple(pair) for pair in pairs.tolist()}
    ranks = np.where(pairs[:, 0] == 0, pairs[:, 1], 199 - pairs[:, 1])
    own = ranks[pairs[:, 0] == 1]
    assert 0.65 < (own < 10).mean() < 0.8
    assert own.max() < 100
    assert own.max() > 80
    assert np.array_equal(draws[3], mine(items, keyphrases, known, 5, 3))
    assert set(mine(items, keyphrases, known, 1, 0)[:, 0]) in ({0}, {1})
    assert len(mine(items, keyphrases[:0], set(), 5, 0)) == 0


def test_random_pairs_are_of_all_and_never_judged() -> None:
    known = {(0, k) for k in range(10)}
    found = random_pairs(2, 10, known, 100, 0)
    assert {tuple(pair) for pair in found.tolist()} == {(1, k) for k in range(10)}
    assert np.array_equal(random_pairs(50, 50, known, 30, 1), random_pairs(50, 50, known, 30, 1))
    assert len(random_pairs(500, 500, known, 30, 1)) == 30


def test_figures_of_held_out_pairs() -> None:
    pairs = judged(4, 2)
    held = held_out_of(pairs, ["query 0", "other"], 0)
    assert held.keyphrases == ("query 0", "query 1", "query 2", "query 3", "other")
    assert held.gold is None
    right = Rated(held.labels + 0.1, np.ones(4))
    wrong = Rated(-held.labels, np.zeros(4))
    found = held.figures(right)
    assert (found["auc"].value, found["pearson"].value, found["recall"].value) == pytest.approx((1, 1, 1))
    change = held.figures(right, wrong)
    assert change["auc"].value == pytest.approx(1)
    assert change["recall"].low == pytest.approx(1)
    items = np.array([[1, 0.0], [0, 1.0]], np.float32)
    keyphrases = np.array([[1, 0.2], [1, 0.1], [1, 0.0], [1, 0.3], [0, 1]], np.float32)
    rated = held.rate(items, keyphrases, 2)
    assert rated.scores[0] == pytest.approx(1 / np.hypot(1, 0.2))
    assert len(rated.hits) == 4


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"clicks": 3, "impressions": 2}, "clicks are 3 of 2 impressions"),
        ({"impressions": 0, "clicks": 0}, "impressions are 0"),
        ({"position": 0}, "ranks begin at 1"),
        ({"item": "unknown"}, "item 'unknown' has no text anywhere"),
        ({"keyphrase": " "}, "keyphrase is empty"),
        ({"clicks": "many"}, "Expected `float`"),
    ],
)
def test_rows_of_clicks_that_mean_nothing_are_named(tmp_path: Path, row: dict, problem: str) -> None:
    good = {"item": "a", "keyphrase": "k", "clicks": 1, "impressions": 2, "position": 1}
    path = write(tmp_path / "clicks.jsonl", good, good | row)
    with pytest.raises(TrainingDataError) as error:
        read_rows(path, Clicks, {"a": "text"})
    assert "row 2: " in str(error.value)
    assert problem in str(error.value)
    assert len(read_rows(write(path, good), Clicks, {"a": "text"})) == 1


def test_files_of_keyphrases(tmp_path: Path) -> None:
    lines = write(tmp_path / "k.jsonl", {"keyphrase": "red cap", "titles": 3}, {"keyphrase": "red cap"})
    assert read_keyphrases(lines) == ["red cap"]
    (tmp_path / "k.txt").write_text(" a b \n\nc\n", encoding="utf-8")
    assert read_keyphrases(tmp_path / "k.txt") == ["a b", "c"]
    with pytest.raises(TrainingDataError, match=r"row 2: is no \{"):
        read_keyphrases(write(lines, {"keyphrase": "x"}, {"phrase": "y"}))
    lines.write_text("[" * 100_000 + "\n", encoding="utf-8")
    with pytest.raises(TrainingDataError, match=r"row 1: is no \{"):
        read_keyphrases(lines)
    (tmp_path / "k.txt").write_text("\n", encoding="utf-8")
    with pytest.raises(SourceError, match="holds no keyphrase"):
        read_keyphrases(tmp_path / "k.txt")
    with pytest.raises(SourceError, match="No such file"):
        read_keyphrases(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ({"dims": (64, 128)}, "the largest first"),
        ({"dims": ()}, "the largest first"),
        ({"weights": {"judge": 0.0}}, "all are 0"),
        ({"weights": {"juge": 1.0}}, "the tasks are judge, clicks, relevance"),
        ({"weights": {"judge": -1.0}}, "give a number from 0"),
        ({"method": "full"}, "choose one of adapter, layers"),
        ({"loss": "mae"}, "choose one of pearson, mse"),
        ({"position_bias": -1}, "from 0 to 5"),
        ({"share": 1.0}, "between 0 and 1"),
        ({"batch": 2}, "8 pairs or more"),
        ({"epochs": 0}, "--epochs 0"),
        ({"learning_rate": float("nan")}, "above 0"),
    ],
)
def test_impossible_settings_are_refused(setting: dict, problem: str) -> None:
    with pytest.raises(DistillOptionError, match=problem):
        replace(DistillOptions(), **setting)


def test_signals_of_the_judged_pairs_are_learned_where_no_file_is_given() -> None:
    split = split_by_keyphrase(HERE, judged(clicks=1, impressions=2, position=1, relevance=3), 0.2, 0)
    found = gather_material(split, DistillSources(), DistillOptions())
    assert [(lesson.task, len(lesson)) for lesson in found.others] == [
        ("clicks", len(split.train)),
        ("relevance", len(split.train)),
    ]
    none = gather_material(split, DistillSources(), DistillOptions(weights={"judge": 1.0}))
    assert none.others == ()
    assert len(pairs_of(split.train)) == len(none.judge)

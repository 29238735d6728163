# SPDX-License-Identifier: Apache-2.0
"""Review 100 cells by keys in a real browser, learn, publish, and measure what it gained.

``python examples/review/run.py`` takes the recorded answers of five LLM runs on AE-110K (``--data``, else
``QUORUM_DATA``), serves them as members of a real tritonserver, and splits the products in two halves. On one
half the gold is hidden; the page asks for it, and this script presses the keys of a person who knows it. The
weights learned from these labels are published and promoted, and the server answers the other half before
and after. ``--draws 20`` also repeats choice, labels and learning on other halves, without browser and
server, for each order of the queue. Needs Chromium and the environment of ``make setup-dev``. All is in a
temporary folder that is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any, get_args

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import yaml

from quorum.decision.weights import Weights, equal_weights
from quorum.evaluation.answers import decide_answers
from quorum.learning.by_kind import learn
from quorum.review.page.queue import Order, make_queue
from quorum.votes import Cell, VotesTable, read_votes
from quorum_client import Client

ROOT = Path(__file__).resolve().parents[2]
QUORUM = Path(sys.executable).with_name("quorum")
MEMBERS = {
    "gpt35": "gpt-3.5-10shot-list",
    "gpt4-train20": "gpt-4-10shot-schema-train20",
    "gpt4": "gpt-4-10shot-schema",
    "gpt4-shuffle-train20": "gpt-4-10shot-shuffle3-train20",
    "gpt4-shuffle": "gpt-4-10shot-shuffle3",
}
DIGITS = 9
Key = tuple[str, str]


def say(text: str) -> None:
    print(text, flush=True)


def run(folder: Path, *arguments: str) -> str:
    """Run a command of quorum; what it printed."""
    done = subprocess.run([QUORUM, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"quorum {' '.join(arguments)}: {done.stderr}{done.stdout}")
    return done.stdout


# ---- data


def recorded(data: Path) -> list[dict[str, Any]]:
    """The recorded votes, by the members' names here."""
    path = data / "ae-110k" / "votes.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [row | {"votes": {name: row["votes"][was] for name, was in MEMBERS.items()}} for row in rows]


def halves(rows: Sequence[dict[str, Any]], seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of one half of the products, and of the other."""
    products = sorted({row["product"] for row in rows})
    mine = set(random.Random(seed).sample(products, len(products) // 2))
    return [r for r in rows if r["product"] in mine], [r for r in rows if r["product"] not in mine]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


# ---- the reviewer


def review_by_keys(folder: Path, gold: dict[Key, list[str]], labels: int) -> dict[str, Any]:
    """Decide cells on the page by keys alone; keys pressed and seconds per decision."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support.browser import browser, watched
    from support.review_page import serving

    pressed: dict[str, int] = {}
    seconds: list[float] = []
    arguments = ("review.jsonl", "--weights", "before.json", "--count", str(labels), "--reviewer", "gold")
    with serving(folder, *arguments) as page, browser() as chromium, watched(chromium) as window:
        window.open(page.urls[0])
        for _ in range(labels):
            start = time.perf_counter()
            answers = gold[window.product, window.page.inner_text("#question")]
            candidates = window.page.locator("#candidates .part").all_inner_texts()
            places = [candidates.index(own) + 1 for own in answers if own in candidates]
            if answers[0] == "n/a":
                keys = "n"
            elif places and places[0] == 1:
                keys = "Enter"
            elif places and places[0] <= DIGITS:
                keys = str(places[0])
            else:
                keys = "/"
                window.page.keyboard.press("/")
                window.page.keyboard.type(" | ".join(answers))
            window.keys("Enter" if keys == "/" else keys)
            seconds.append(time.perf_counter() - start)
            kind = keys if not keys.isdecimal() else "digit"
            pressed[kind] = pressed.get(kind, 0) + 1
        if window.errors or window.outside:
            sys.exit(f"the page failed: {window.errors} {window.outside}")
        page.process.terminate()
        page.process.wait(60)
    return {"keys": pressed, "seconds": median(seconds)}


# ---- the server


@contextmanager
def serving_members(folder: Path) -> Iterator[str]:
    """A tritonserver with the recorded members, and its address."""
    spec = {
        "members": [
            {"name": name, "runtime": "replay", "options": {"votes": "all.jsonl"}} for name in MEMBERS
        ],
        "attributes": {},
        "default_normaliser": "exact",
        "server": {"grpc_port": 0, "metrics_port": 0},
    }
    (folder / "deploy.yaml").write_text(yaml.safe_dump(spec), "utf-8")
    run(folder, "render")
    with (folder / "up.log").open("w") as log:
        up = subprocess.Popen([QUORUM, "up"], cwd=folder, stderr=log, stdout=log)
    try:
        yield str(json.loads(run(folder, "status", "--wait", "120", "--json"))["url"])
    finally:
        up.terminate()
        up.wait(60)


def served_accuracy(url: str, rows: Sequence[dict[str, Any]]) -> tuple[float, int]:
    """Share of cells that the stable channel answers right, and the version that answered."""
    products: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        products.setdefault((row["title"], row["category"]), []).append(row)
    right, versions = [], set()
    with Client(url) as client:
        for (title, category), cells in products.items():
            found = client.extract(title, [row["attribute"] for row in cells], category=category)
            versions.add(found.weights_version)
            for row, own in zip(cells, found.answers, strict=True):
                cell = Cell("", category, title, row["attribute"], (), tuple(row["gold"]))
                right.append(cell.is_right(own.value))
    (version,) = versions
    return fmean(right), version


# ---- draws without a browser


def labelled(table: VotesTable, rows: Sequence[int]) -> VotesTable:
    keep = np.zeros(len(table), np.bool_)
    keep[list(rows)] = True
    return table.with_gold(keep)


def draws(rows: list[dict[str, Any]], number: int, labels: int, folder: Path) -> None:
    """Gain of each order, over other halves of the products, with the gold as the reviewer."""
    figures: dict[str, list[tuple[float, ...]]] = {}
    for seed in range(number):
        mine, others = halves(rows, seed)
        full, test = (read_votes(write(folder / "draw.jsonl", half)) for half in (mine, others))
        bare = labelled(full, [])
        before = learn(bare)
        seen = decide_answers(bare, before, {})
        majority = judged(test, equal_weights(test.members))[0]
        chosen = {"random": random.Random(seed).sample(range(len(full)), labels)}
        for order in get_args(Order):
            queue = make_queue(bare, seen.confidence, labels, order=order, weights=before, seed=seed)
            chosen[order] = [choice.index for choice in queue.choices]
        for name, rows_of in chosen.items():
            wrong = fmean(not full.cells[row].is_right(seen.values[row]) for row in rows_of)
            right, sure = judged(test, learn(labelled(full, rows_of)))
            figures.setdefault(name, []).append((right - majority, sure - right, wrong))
    say(f"\n{labels} labels, {number} draws: points to majority on the other half +- standard error;")
    say("confidence minus accuracy there, points; share of the reviewed cells whose answer changes")
    for name, found in figures.items():
        gain, doubt, wrong = (list(column) for column in zip(*found, strict=True))
        points, error = 100 * fmean(gain), 100 * stdev(gain) / number**0.5
        say(f"  {name:8} {points:+.2f} +- {error:.2f}  {100 * fmean(doubt):+.1f}  {fmean(wrong):.0%}")


def judged(table: VotesTable, weights: Weights) -> tuple[float, float]:
    """Share right, and mean confidence."""
    answers = decide_answers(table, weights, {})
    return float(answers.scores[table.labelled].mean()), float(answers.confidence[table.labelled].mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QUORUM_DATA", "data")))
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="splits the products")
    parser.add_argument("--draws", type=int, default=0, help="repeat without browser and server")
    chosen = parser.parse_args()
    rows = recorded(chosen.data)
    mine, others = halves(rows, chosen.seed)
    gold = {(row["product"], row["attribute"]): row["gold"] for row in mine}
    with tempfile.TemporaryDirectory(prefix="quorum-review-") as name:
        folder = Path(name)
        write(folder / "all.jsonl", rows)
        write(folder / "review.jsonl", [{k: v for k, v in row.items() if k != "gold"} for row in mine])
        write(folder / "test.jsonl", others)
        with serving_members(folder) as url:
            run(folder, "learn", "review.jsonl", "--out", "before.json")
            done = review_by_keys(folder, gold, chosen.labels)
            say(f"{chosen.labels} cells decided by keys: {done['keys']}; {1e3 * done['seconds']:.0f} ms each")
            run(folder, "learn", "review.labels.jsonl", "--out", "after.json")
            before, first = served_accuracy(url, others)
            say(f"version {first}, majority: {before:.2%} of {len(others)} cells of other products right")
            for weights in ("before.json", "after.json"):
                run(folder, "publish", weights)
                number = str(max(map(int, json.loads(run(folder, "status", "--json"))["versions"])))
                run(folder, "promote", number)
                found, version = served_accuracy(url, others)
                what = "no gold" if weights == "before.json" else f"{chosen.labels} reviewed cells"
                say(f"version {version}, {what}: {found:.2%} right, {100 * (found - before):+.2f} points")
            say(run(folder, "evaluate", "test.jsonl", "--weights", "after.json").partition("\n")[0])
        if chosen.draws:
            draws(rows, chosen.draws, chosen.labels, folder)


if __name__ == "__main__":
    main()

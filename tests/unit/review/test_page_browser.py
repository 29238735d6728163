# SPDX-License-Identifier: Apache-2.0
"""The review page in a real browser, by keys alone."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import Watched, browser, find_chromium, watched
from support.review_page import Page, rows, serving, write_votes

from quorum.review.page.journal import read_journal
from quorum.votes import read_votes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_chromium() is None, reason="no Chromium here: `apt-get install chromium` to test the page in it"
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None, reason="no Playwright here: run `make setup-dev`"
    ),
]
REVIEW = ("votes.jsonl", "--out", "labels.jsonl", "--reviewer", "ann", "--reviewer", "bob", "--count", "30")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Page]:
    write_votes(tmp_path / "votes.jsonl", rows())
    with serving(tmp_path, *REVIEW) as page:
        yield page


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, Path]]:
    """A page for tests that do not stop it, and its folder."""
    folder = tmp_path_factory.mktemp("shared")
    write_votes(folder / "votes.jsonl", rows())
    with serving(folder, *REVIEW) as page:
        yield page, folder


def check(window: Watched) -> None:
    assert window.errors == []
    assert window.outside == []
    assert window.page.evaluate("window.hacked") is None


def gold_of(folder: Path) -> list[tuple[str, ...]]:
    return [e.gold for e in read_journal(folder / "labels.journal.jsonl") if e.verdict == "answer"]


def test_a_review_by_keys_alone(chromium: Any, served: Page, tmp_path: Path) -> None:
    with watched(chromium) as ann:
        ann.open(served.urls[0])
        assert "token" not in ann.page.url
        # The title that would run a script is shown as it is.
        assert ann.product == "p0"
        assert ann.page.inner_text("#text").startswith("<img src=x onerror=")
        assert ann.page.locator("#card img, #card script, #card b").count() == 0
        assert ann.page.locator("mark").all_inner_texts() == ["red", "blue"]
        ann.keys("1", "Enter", "2", "n", "s", "u")
        # A typed answer is refused where it is none, and stays to be corrected.
        ann.page.keyboard.press("/")
        ann.page.keyboard.type("   ")
        ann.page.keyboard.press("Enter")
        ann.page.wait_for_selector("#error:visible")
        assert "empty answer" in ann.page.inner_text("#error")
        ann.errors.clear()  # Chromium notes the refused call on the console
        ann.page.keyboard.type("dark red | red")
        ann.keys("Enter")
        assert gold_of(tmp_path)[-1] == ("dark red", "red")
        # A note goes with the next decision; letters in it are no keys.
        ann.page.keyboard.press("m")
        ann.page.keyboard.type("snuz 1")
        ann.page.keyboard.press("Enter")
        ann.keys("1")
        assert read_journal(tmp_path / "labels.journal.jsonl")[-1].note == "snuz 1"
        ann.keys(*(["Enter", "1"] * 7))
        assert ann.page.inner_text("#progress").startswith("21 done, 9 left")
        # Back over three steps, each shows its cell.
        ann.keys("z", "z", "z")
        waiting = ann.product
        assert "Taken back" in ann.page.inner_text("#before")
        # A reload, and a killed server, go on where it was.
        ann.page.reload()
        ann.wait_for_step(1)
        assert ann.product == waiting
        served.process.kill()
        ann.page.keyboard.press("Enter")
        ann.page.wait_for_selector("#error:visible")
        ann.errors.clear()
    with serving(tmp_path, *REVIEW) as again, watched(chromium) as ann:
        ann.open(again.urls[0])
        assert ann.product == waiting
        ann.keys("Enter", "1")
        assert ann.page.inner_text("#progress").startswith("20 done, 10 left")
        check(ann)
        second_reviewer(chromium, again)
        again.process.terminate()
        assert again.process.wait(30) == 0
    table = read_votes(tmp_path / "labels.jsonl")
    assert sum(bool(cell.gold) for cell in table.cells) == 19


def second_reviewer(chromium: Any, served: Page) -> None:
    """Another person sees the same cells, differs once, and settles it."""
    with watched(chromium, color_scheme="dark") as bob:
        bob.open(served.urls[1])
        assert bob.page.input_value("#reviewer") == "bob"
        assert bob.product == "p0"
        bob.keys("2", "Enter")
        assert "ann, bob" in bob.page.inner_text("#agreement")
        bob.keys("d")
        assert bob.page.get_attribute("#mode-adjudicate", "aria-pressed") == "true"
        assert bob.product == "p0"
        assert bob.page.locator("#people li").count() == 2
        bob.keys("1")
        # The one that ann is unsure of.
        assert bob.page.inner_text("#people").strip() == "ann: unsure"
        bob.keys("u")
        assert bob.page.inner_text("#done-title") == "No differences are open"
        bob.keys("z", "u", "d")
        assert bob.product not in ("", "p0")
        check(bob)


def test_a_held_key_decides_one_cell_and_the_help_takes_no_keys(
    chromium: Any, shared: tuple[Page, Path]
) -> None:
    served, folder = shared
    with watched(chromium, viewport={"width": 390, "height": 844}) as ann:
        ann.open(served.urls[0])
        ann.page.keyboard.press("?")
        ann.page.wait_for_selector("#help[open]")
        ann.page.keyboard.press("1")
        ann.page.keyboard.press("Escape")
        ann.page.wait_for_selector("#help", state="hidden")
        before = ann.step
        for _ in range(4):
            ann.page.keyboard.down("1")
        ann.page.keyboard.up("1")
        ann.wait_for_step(before + 1)
        ann.keys("n")
        assert len(gold_of(folder)) == 2
        # A phone's width: nothing sticks out, and buttons do what keys do.
        assert ann.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        ann.page.click("#candidates button >> nth=0")
        ann.page.wait_for_selector('body[data-done="3"]')
        ann.page.click('[data-do="undo"]')
        ann.page.wait_for_selector('body[data-done="2"]')
        check(ann)


def test_who_has_run_out_of_cells_gets_what_others_leave(chromium: Any, tmp_path: Path) -> None:
    write_votes(tmp_path / "votes.jsonl", rows(3))
    with serving(tmp_path, *REVIEW) as served, watched(chromium) as ann:
        ann.page.clock.install()
        ann.open(served.urls[0])
        ann.keys("1", "1", "1", "d")
        assert ann.page.inner_text("#done-title") == "No differences are open"
        step = ann.step
        ann.page.clock.run_for(30_000)
        # Nothing is drawn again without news: focus stays where it is.
        assert ann.step == step
        state = served.decide(served.ask("/api/state?reviewer=bob")[2], "unsure")
        ann.page.clock.run_for(10_000)
        ann.wait_for_step(step + 1)
        assert ann.page.is_visible("#card")
        assert state["progress"]["unsettled"] == 1
        check(ann)


def test_a_window_without_the_token_sees_nothing(chromium: Any, shared: tuple[Page, Path]) -> None:
    with watched(chromium) as stranger:
        stranger.page.goto(shared[0].urls[0].partition("#")[0])
        stranger.page.wait_for_selector("#error:visible")
        assert "token" in stranger.page.inner_text("#error")
        assert not stranger.page.is_visible("#card")


def test_another_site_cannot_decide(chromium: Any, shared: tuple[Page, Path]) -> None:
    """A page of another origin that knows even the token: the browser and the server refuse it."""
    served, folder = shared
    before = len(read_journal(folder / "labels.journal.jsonl"))
    with watched(chromium) as other:
        other.page.route("http://elsewhere.test/", lambda route: route.fulfill(body="<p>elsewhere</p>"))
        other.page.goto("http://elsewhere.test/")
        body = {"reviewer": "ann", "product": "p0", "attribute": "color", "verdict": "unsure"}
        script = """([port, token, body]) => fetch(`http://127.0.0.1:${port}/api/decide`, {method: "POST",
            mode: "no-cors", headers: {"Content-Type": "text/plain", "Authorization": "Bearer " + token},
            body}).then(() => "sent", () => "blocked")"""
        other.page.evaluate(script, [served.port, served.token, json.dumps(body)])
        assert len(read_journal(folder / "labels.journal.jsonl")) == before

# SPDX-License-Identifier: Apache-2.0
"""A real Chromium, driven by Playwright; errors of the page, and what it asks elsewhere, are recorded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """The browser of this machine; None without one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@dataclass
class Watched:
    """A page of the browser, and what it must not do.

    Attributes:
        page: Of Playwright.
        errors: Uncaught errors, refusals by the content security policy, errors on the console.
        outside: Addresses that it asked other than 127.0.0.1.
    """

    page: Any
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def keys(self, *keys: str) -> None:
        """Press keys one by one, each once the page has answered the one before."""
        for key in keys:
            before = self.step
            self.page.keyboard.press(key)
            self.wait_for_step(before + 1)

    def open(self, url: str) -> None:
        """Open an address and wait for the first cell, or the end."""
        self.page.goto(url)
        self.wait_for_step(1)

    def wait_for_step(self, step: int) -> None:
        """Wait until the page has shown so many answers of the server."""
        # By a selector: the page's policy forbids what evaluates a condition again and again.
        self.page.wait_for_selector(f'body[data-step="{step}"]')

    @property
    def step(self) -> int:
        """How many answers of the server the page has shown."""
        return int(self.page.get_attribute("body", "data-step"))

    @property
    def product(self) -> str:
        """The cell that is shown."""
        return str(self.page.inner_text("#product"))


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium without its sandbox, which a container without privileges cannot have."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        try:
            yield chromium
        finally:
            chromium.close()


@contextmanager
def watched(chromium: Any, **context: Any) -> Iterator[Watched]:
    """A new window with its own storage."""
    window = chromium.new_context(**context)
    own = Watched(window.new_page())
    own.page.set_default_timeout(30_000)
    own.page.on("pageerror", lambda error: own.errors.append(str(error)))
    own.page.on("console", lambda m: own.errors.append(m.text) if m.type == "error" else None)
    own.page.on("request", lambda r: None if "//127.0.0.1:" in r.url else own.outside.append(r.url))
    try:
        yield own
    finally:
        window.close()

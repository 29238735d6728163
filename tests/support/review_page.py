# SPDX-License-Identifier: Apache-2.0
"""The command ``quorum review`` as a process, and calls on its page."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from support import command

MEMBERS = ("llama", "qwen", "gpt")
XSS = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script> red & "blue" shoe'


def rows(cells: int = 60, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of a votes table: members that err at random; the first product's title tries to run a script."""
    rng = random.Random(seed)
    colors = ["red", "blue", "green"]
    table = []
    for i in range(cells):
        color = rng.choice(colors)
        votes = {m: color if rng.random() < 0.6 else rng.choice([*colors, "n/a"]) for m in MEMBERS}
        title = XSS if i == 0 else f"Velmora {color} shoe, size {36 + i % 9}"
        table.append({"product": f"p{i}", "title": title, "attribute": "color", "votes": votes})
    # Every member names something else: the least confident cell comes first.
    table[0]["votes"] = dict(zip(MEMBERS, ["red", "blue", "<b>bold</b>"], strict=True))
    return table


def write_votes(path: Path, table: list[dict[str, Any]]) -> Path:
    """Write a votes table as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in table), "utf-8")
    return path


@dataclass
class Page:
    """A page that is served; ``urls``: what each reviewer opens."""

    process: subprocess.Popen[str]
    urls: list[str]

    @property
    def port(self) -> int:
        return urlsplit(self.urls[0]).port or 0

    @property
    def token(self) -> str:
        return self.urls[0].partition("#token=")[2]

    def ask(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and content; the token and the type are sent unless ``headers`` has others."""
        own = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request("GET" if body is None else "POST", path, data, own | (headers or {}))
            answer = connection.getresponse()
            content = answer.read()
            kind = answer.headers["content-type"]
            parsed = json.loads(content) if kind == "application/json" else content.decode()
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, parsed
        finally:
            connection.close()

    def decide(self, state: Any, verdict: str = "answer", **more: str) -> Any:
        """Decide the cell that a state shows; the next state."""
        card = state["card"]
        body = {"reviewer": state["reviewer"], "mode": state["mode"], "verdict": verdict}
        status, _, content = self.ask(
            "/api/decide", body | {"product": card["product"], "attribute": card["attribute"]} | more
        )
        assert status == 200, content
        return content


@contextmanager
def serving(folder: Path, *arguments: str | Path, **environment: str) -> Iterator[Page]:
    """Run ``quorum review`` and wait until it listens."""
    process = command.start(folder, "review", *arguments, **environment)
    try:
        urls: list[str] = []
        said: list[str] = []
        assert process.stderr
        for line in process.stderr:
            said.append(line)
            if "open in a browser" in line:
                names = max(1, sum(argument == "--reviewer" for argument in arguments))
                urls = [process.stderr.readline().strip() for _ in range(names)]
                break
        assert urls, "".join(said)
        yield Page(process, urls)
    finally:
        process.kill()
        process.communicate()

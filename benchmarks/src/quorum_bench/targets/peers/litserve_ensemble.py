# SPDX-License-Identifier: Apache-2.0
"""Serve the ensemble as a LitAPI on its own server, so that new weights do not restart the members."""

import asyncio
from typing import Any

import aiohttp
import litserve as ls
from fastapi import Request
from shared import Settings, Vote


class Ensemble(ls.LitAPI):
    """Ask all members at once and count their votes."""

    def setup(self, device: str) -> None:
        """Set up the worker process."""
        settings = Settings.read()
        base = f"http://127.0.0.1:{settings.ports['members']}"
        self.urls = [f"{base}/{name}" for name in settings.members]
        self.vote = Vote.read(settings.weights)
        self.session: aiohttp.ClientSession | None = None

    async def decode_request(self, request: Request) -> Request:
        """Return the parsed JSON body; LitServe reads its type from the annotation."""
        return request

    async def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Ask all members, count their votes."""
        votes = await asyncio.gather(*(self._ask(url, x) for url in self.urls))
        return self.vote.answer(votes)

    async def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Return the output, already plain JSON data."""
        return output

    async def _ask(self, url: str, body: dict[str, Any]) -> list[str]:
        if self.session is None:
            self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        async with self.session.post(url, json=body) as response:
            response.raise_for_status()
            values: list[str] = (await response.json())["values"]
            return values


if __name__ == "__main__":
    server = ls.LitServer(
        Ensemble(api_path="/answer", enable_async=True), accelerator="cpu", fast_queue=False
    )
    server.run(
        host="127.0.0.1",
        port=Settings.read().ports["gateway"],
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )

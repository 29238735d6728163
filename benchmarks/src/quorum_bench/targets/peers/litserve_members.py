# SPDX-License-Identifier: Apache-2.0
"""Serve all members on one LitServe server: each a LitAPI with its own path and worker process."""

from typing import Any

import litserve as ls
from fastapi import Request
from shared import Settings, make_member


class Member(ls.LitAPI):
    """Answer many requests at once, as an LLM engine with in-flight batching does."""

    def __init__(self, name: str) -> None:
        super().__init__(api_path=f"/{name}", enable_async=True)
        self.name = name

    def setup(self, device: str) -> None:
        """Set up the worker process."""
        self.member = make_member(Settings.read(), self.name)

    async def decode_request(self, request: Request) -> Request:
        """Return the parsed JSON body; LitServe reads its type from the annotation."""
        return request

    async def predict(self, x: dict[str, Any]) -> list[str]:
        """Return a value per attribute."""
        return await self.member.values(x["text"], x["category"], x["attributes"])

    async def encode_response(self, output: list[str]) -> dict[str, Any]:
        """Return the values as JSON data."""
        return {"values": output}


if __name__ == "__main__":
    settings = Settings.read()
    server = ls.LitServer([Member(name) for name in settings.members], accelerator="cpu", fast_queue=False)
    server.run(
        host="127.0.0.1",
        port=settings.ports["members"],
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )

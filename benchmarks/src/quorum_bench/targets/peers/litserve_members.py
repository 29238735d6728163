# SPDX-License-Identifier: Apache-2.0
"""All members on one LitServe server: each a LitAPI with a path and a worker process of its own."""

from typing import Any

import litserve as ls
from fastapi import Request
from shared import Settings, make_member


class Member(ls.LitAPI):
    """Answers many at once, as an LLM engine with in-flight batching does."""

    def __init__(self, name: str) -> None:
        super().__init__(api_path=f"/{name}", enable_async=True)
        self.name = name

    def setup(self, device: str) -> None:
        """In the worker process."""
        self.member = make_member(Settings.read(), self.name)

    async def decode_request(self, request: Request) -> Request:
        """LitServe learns from the annotation what the body is, and hands over what its JSON says."""
        return request

    async def predict(self, x: dict[str, Any]) -> list[str]:
        """A value per attribute."""
        return await self.member.values(x["text"], x["category"], x["attributes"])

    async def encode_response(self, output: list[str]) -> dict[str, Any]:
        """As JSON."""
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

# SPDX-License-Identifier: Apache-2.0
"""What strangers send at worst, from a process of its own: ``python strangers.py JOB`` writes counts as JSON.

Each kind stopped or swelled a tritonserver that could be reached: the output parameter ``classification``,
nested JSON over HTTP, direct calls of the gate, huge messages, and messages that inflate.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.raw import bytes_tensor, grpc_request

INFER = "/inference.GRPCInferenceService/ModelInfer"
NESTED = b"[" * 130_000
HUGE, BOMB = bytes(60 << 20), bytes(64 << 20)
SMALL = ("classification", "gate", "nested JSON")
LARGE = ("60 MB", "inflating")
CHANNELS = 8
PATIENCE_S = 20.0
ANSWERED = "answered"


def classification() -> bytes:
    """A question whose answer Triton 2.51 aborts over."""
    request = grpc_request("quorum", bytes_tensor([b"shoe"]), [b"brand"], b"")
    request.outputs.add(name="VALUES").parameters["classification"].int64_param = 1
    return bytes(request.SerializeToString())


def gate() -> bytes:
    """A direct call of the gate, which would keep its slot."""
    request = grpc_request("quorum_gate", bytes_tensor([b"shoe"]), [b"brand"], b"")
    request.parameters["timeout"].int64_param = 10_000_000
    return bytes(request.SerializeToString())


class Strangers:
    """Sends every kind in turn at a rate, and counts what came of it."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.outcomes: Counter[str] = Counter()
        key = job["key"]
        self.metadata = [("authorization", f"Bearer {key}")] if key else []
        self.messages = {
            "classification": classification(),
            "gate": gate(),
            "60 MB": HUGE,
            "inflating": BOMB,
        }
        self.kinds: list[str] = job["kinds"]
        options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        self.channels = [grpc.aio.insecure_channel(job["url"], options) for _ in range(CHANNELS)]
        self.sends = [channel.unary_unary(INFER) for channel in self.channels]

    async def send(self, kind: str, number: int) -> None:
        """One message of a kind."""
        if kind == "nested JSON":
            outcome = await self._nested()
        else:
            squeezed = kind == "inflating"
            outcome = await self._call(
                number % CHANNELS,
                self.messages[kind],
                grpc.Compression.Deflate if squeezed else grpc.Compression.NoCompression,
            )
        self.outcomes[f"{kind}: {outcome}"] += 1

    async def _call(self, channel: int, message: bytes, compression: grpc.Compression) -> str:
        try:
            await self.sends[channel](
                message, metadata=self.metadata, compression=compression, timeout=PATIENCE_S
            )
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
        return ANSWERED

    async def _nested(self) -> str:
        """Nested JSON to the port where HTTP would be."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.job["http_port"])
            head = f"POST /v2/models/quorum/infer HTTP/1.1\r\nContent-Length: {len(NESTED)}\r\n\r\n"
            writer.write(head.encode() + NESTED)
            await reader.read(1)
            writer.close()
        except OSError as error:
            return type(error).__name__
        return ANSWERED

    async def run(self) -> None:
        """Send for the time of the job, at most at its rate and so many at once."""
        rate, start, number = self.job["rate"], time.monotonic(), 0
        end, flying = start + self.job["seconds"], set[asyncio.Future[None]]()
        while time.monotonic() < end:
            due = int((time.monotonic() - start) * rate)
            while number < due and len(flying) < self.job["at_once"]:
                task = asyncio.ensure_future(self.send(self.kinds[number % len(self.kinds)], number))
                flying.add(task)
                task.add_done_callback(flying.discard)
                number += 1
            # What could not be sent in time is left out, not sent later in a burst.
            start += max(0, due - number) / rate
            await asyncio.sleep(0.005)
        await asyncio.gather(*flying)


async def main() -> None:
    strangers = Strangers(json.loads(sys.argv[1]))
    await strangers.run()
    sys.stdout.write(json.dumps(strangers.outcomes))


if __name__ == "__main__":
    asyncio.run(main())

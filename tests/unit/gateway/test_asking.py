# SPDX-License-Identifier: Apache-2.0
"""What a gateway learns from the answers that pass, before a small server that answers what it is asked."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from support.http_half import KEY, gateway_of
from tritonclient.grpc import service_pb2 as pb

from quorum.gateway.asking import Asking, Question
from quorum.gateway.hops import Hop
from quorum.gateway.upstream import INFER, SERVICE


class Sharing(grpc.GenericRpcHandler):
    """Answers every output that is asked for with the canary's share."""

    share = 1.0

    def service(self, handler_call_details: Any) -> Any:
        assert handler_call_details.method == f"{SERVICE}{INFER}"

        async def answer(raw: bytes, _: Any) -> bytes:
            response = pb.ModelInferResponse()
            for output in pb.ModelInferRequest.FromString(raw).outputs:
                response.outputs.add(name=output.name)
                response.raw_output_contents.append(struct.pack("<d", self.share))
            return bytes(response.SerializeToString())

        return grpc.unary_unary_rpc_method_handler(answer)


def test_the_share_is_learned_also_from_callers_who_name_other_outputs(tmp_path: Path) -> None:
    async def run() -> None:
        sharing, server = Sharing(), grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((sharing,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        request = pb.ModelInferRequest(model_name="quorum")
        request.outputs.add(name="VALUES")
        async with gateway_of(tmp_path, target=f"127.0.0.1:{port}") as gateway:
            caller = gateway.callers.identify(f"Bearer {KEY}")
            question = Question(caller, "quorum", 60.0, "sku-1", Hop({}))
            for share, expected in ((1.0, "quorum_canary"), (0.0, "quorum")):
                sharing.share = share
                answered = await Asking(gateway).ask(question, request, request.SerializeToString())
                assert [output.name for output in answered.response.outputs] == ["VALUES"]
                assert pb.ModelInferResponse.FromString(answered.raw) == answered.response
                assert gateway.router.channel("quorum", "sku-1") == expected
        await server.stop(None)

    asyncio.run(run())

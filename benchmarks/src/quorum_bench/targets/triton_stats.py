# SPDX-License-Identifier: Apache-2.0
"""Read Triton's own statistics by model: queue and compute time of requests."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from quorum.server.triton import GRPC_ADMIN_HEADER
from quorum_bench.targets import StepTimes


class TritonStatistics:
    """Reads the statistics of one server.

    Args:
        url: ``host:port``.
        admin_key: Key of the administration.
    """

    def __init__(self, url: str, admin_key: str) -> None:
        self._channel = grpc.insecure_channel(url)
        self._stub = GRPCInferenceServiceStub(self._channel)
        self._metadata = [(GRPC_ADMIN_HEADER, admin_key)]

    def read(self) -> Mapping[str, StepTimes]:
        """Read the statistics per model, over all its versions; models without requests are left out.

        Raises:
            grpc.RpcError: The key is wrong, or the server does not respond.
        """
        answer = self._stub.ModelStatistics(pb.ModelStatisticsRequest(), metadata=self._metadata, timeout=10)
        times: dict[str, StepTimes] = {}
        for model in answer.model_stats:
            s = model.inference_stats
            if not s.success.count:
                continue
            before = times.get(model.name, StepTimes(0, 0, 0))
            # For an ensemble Triton's own compute times add up steps that ran side by side; this does not.
            compute = s.success.ns - s.queue.ns
            times[model.name] = StepTimes(
                before.count + s.success.count, before.queue_ns + s.queue.ns, before.compute_ns + compute
            )
        return times

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

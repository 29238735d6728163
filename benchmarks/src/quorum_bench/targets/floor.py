# SPDX-License-Identifier: Apache-2.0
"""The same graph with steps that do nothing: what Triton takes for it on this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as mc

from quorum.contract import CHANNELS, GATE, QUESTION, STABLE, VOTE, VOTES
from quorum.repository.configs import parse_config, print_config
from quorum.server.control import Control
from quorum_bench.targets.quorum import START_S, QuorumTarget

_MODEL = Path(__file__).parent / "floor_model.py"
# Bytes of a question and of a member's votes, about what the real ones have.
_SIZES = {QUESTION: 320, VOTES: 80}


class FloorTarget(QuorumTarget):
    """A deployment whose gate, members and vote hand out constants of the real answers' types and sizes.

    Its answers mean nothing, so it can be asked for latencies only.
    """

    def _ready(self) -> None:
        endpoint = self._server.endpoint
        with Control(endpoint.grpc_url, endpoint.admin_key) as control:
            self._server.wait_ready(lambda: control.is_ready(STABLE), START_S)

    def _render(self) -> None:
        super()._render()
        attributes = len(self._workload.products[0].attributes)
        for path in self._repository.glob("*/config.pbtxt"):
            config = parse_config(path.read_text("utf-8"))
            if config.name not in CHANNELS:
                config.backend = "python"
                config.parameters["outputs"].string_value = json.dumps(self._outputs(config, attributes))
                path.write_text(print_config(config), encoding="utf-8")
                (path.parent / "1").mkdir(exist_ok=True)
                (path.parent / "1" / "model.py").write_bytes(_MODEL.read_bytes())

    def _outputs(self, config: mc.ModelConfig, attributes: int) -> Mapping[str, tuple[str, list[int]]]:
        """Name -> type and shape of each constant."""
        sizes = [len(self.members), attributes] if config.name == VOTE else []
        outputs: dict[str, tuple[str, list[int]]] = {}
        for tensor in config.output:
            dims = list(tensor.dims)
            if -1 in dims and config.name == VOTE:
                of_members = tensor.name.startswith("MEMBERS")
                dims = sizes if len(dims) > 1 else sizes[:1] if of_members else sizes[1:]
            elif -1 in dims:
                dims = [_SIZES[QUESTION if config.name == GATE else VOTES]]
            leading = [1] if config.max_batch_size else []
            outputs[tensor.name] = (mc.DataType.Name(tensor.data_type), leading + dims)
        return outputs

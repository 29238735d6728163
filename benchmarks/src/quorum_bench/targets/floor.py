# SPDX-License-Identifier: Apache-2.0
"""Serve the same graph with steps that do nothing: the time that Triton itself takes here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as mc

from quorum.repository.configs import parse_config, print_config
from quorum.server.control import Control
from quorum.serving.packing import Admitted, add_ticket, pack_question, pack_votes
from quorum_bench.targets.quorum import START_S, QuorumTarget
from quorum_bench.workload import Product
from quorum_contract import QUESTION, STABLE, VOTES
from quorum_contract.tensors import ANSWERED, CANARY_QUESTION

_MODEL = Path(__file__).parent / "floor_model.py"


class FloorTarget(QuorumTarget):
    """A deployment whose gate, members and vote hand out constants of the real answers' types and sizes.

    Its answers mean nothing; only its latencies count.
    """

    def _ready(self) -> None:
        endpoint = self._server.endpoint
        with Control(endpoint.grpc_url, endpoint.admin_key) as control:
            self._server.wait_ready(lambda: control.is_ready(STABLE), START_S)

    def _render(self) -> None:
        super()._render()
        for path in self._repository.glob("*/config.pbtxt"):
            config = parse_config(path.read_text("utf-8"))
            if config.platform != "ensemble":
                config.backend = "python"
                config.parameters["outputs"].string_value = json.dumps(
                    self._outputs(config, self._workload.products[0])
                )
                path.write_text(print_config(config), encoding="utf-8")
                (path.parent / "1").mkdir(exist_ok=True)
                (path.parent / "1" / "model.py").write_bytes(_MODEL.read_bytes())

    def _outputs(self, config: mc.ModelConfig, product: Product) -> Mapping[str, tuple[str, list[int], str]]:
        """Name -> type, shape and, if packed, bytes in hex of each constant."""
        question = pack_question(Admitted(product.text, product.category, product.attributes, 0))
        packed = {
            QUESTION: add_ticket(0, question),
            CANARY_QUESTION: add_ticket(0, question),
            VOTES: pack_votes([("value 3", 0, None)] * len(product.attributes)),
        }
        sizes = {t.name: t.sizes(len(product.attributes), len(self.members)) for t in ANSWERED}
        outputs: dict[str, tuple[str, list[int], str]] = {}
        for tensor in config.output:
            data = packed.get(tensor.name, b"")
            dims = [len(data)] if data else sizes.get(tensor.name, list(tensor.dims))
            outputs[tensor.name] = (mc.DataType.Name(tensor.data_type), dims, data.hex())
        return outputs

# SPDX-License-Identifier: Apache-2.0
"""An encoder whose network is a Triton model of its own; a stand-in takes the place of its GPU backend."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import pytest
from support import standin
from support.deployment import START_S, Live, plain_triton, write_deployment
from support.encoders import write_encoder

from quorum.deployment import load_deployment
from quorum.repository.render import render
from quorum.server.supervise import wait_channels
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum_contract import Status

pytestmark = pytest.mark.skipif(
    not (find_spec("onnx") and find_spec("onnxruntime")), reason="needs onnx: run `make setup-tune`"
)
CATALOGUE = Catalogue.of([Attribute("shade", values=("red", "blue"), kind="label", allow_na=False)])


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("encoder")
    table = {"red": [4.0, 0.0], "blue": [0.0, 4.0]}
    write_encoder(folder / "models" / "shade", "label", table, CATALOGUE, ["shade"], ["red", "blue"])
    member = {"runtime": "encoder", "options": {"model": "models/shade", "triton": True, "max_batch": 4}}
    path = write_deployment(
        folder,
        {"labels": member},
        rows=[],
        attributes={"shade": {"kind": "label", "values": ["red", "blue"]}},
    )
    spec = load_deployment(path)
    render(spec)
    config = spec.repository_path / "quorum_encoder_labels" / "config.pbtxt"
    # There is no GPU here.
    config.write_text(config.read_text("utf-8").replace("KIND_GPU", "KIND_CPU"), "utf-8")
    with plain_triton(path, install=standin.install(folder / "python")) as live:
        wait_channels(live.server, START_S)
        yield live


def test_the_member_asks_the_network_and_votes(live: Live) -> None:
    reply = live.ask("a blue case", ["shade", "brand"])
    assert reply.votes["labels"] == [("blue", Status.ANSWERED), ("", Status.NOT_ASKED)]


def test_the_longest_input_is_within_the_profile(live: Live) -> None:
    assert live.ask("red " * 500, ["shade"]).votes["labels"] == [("red", Status.ANSWERED)]


def test_batches_are_within_the_profile(live: Live) -> None:
    colors = [("red", "blue")[n % 2] for n in range(64)]
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda color: live.ask(f"a {color} case", ["shade"]), colors))
    assert [reply.values for reply in replies] == [[color] for color in colors]

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
from support.retrievers import WORDS, Encoder, publish_by_hand, version_folder, write_version

from quorum.deployment import Deployment, load_deployment
from quorum.server.supervise import wait_channels
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum_client import Client, RecommendItem
from quorum_contract import RECOMMEND, RECOMMEND_CANARY, RETRIEVER, Status

pytestmark = pytest.mark.skipif(
    not (find_spec("onnx") and find_spec("onnxruntime")), reason="needs onnx: run `make setup-tune`"
)
ENCODERS = {number: Encoder(number) for number in (1, 3, 4)}
CATALOGUE = Catalogue.of([Attribute("shade", values=("red", "blue"), kind="label", allow_na=False)])


def publish(spec: Deployment, *versions: int) -> None:
    """List these versions of the retriever, the last one as the canary."""
    for version in versions:
        write_version(version_folder(spec, version), dict.fromkeys(WORDS, ()), ENCODERS[version])
    publish_by_hand(spec, versions, 1, versions[-1])
    for config in spec.repository_path.glob("quorum_encoder_*/config.pbtxt"):
        # There is no GPU here.
        config.write_text(config.read_text("utf-8").replace("KIND_GPU", "KIND_CPU"), "utf-8")


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
        retriever={"triton": True, "max_batch": 4},
    )
    spec = load_deployment(path)
    publish(spec, 1, 3)
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


@pytest.mark.parametrize(("channel", "version"), [(RECOMMEND, 1), (RECOMMEND_CANARY, 3)])
def test_each_version_of_the_retriever_asks_its_own_network(live: Live, channel: str, version: int) -> None:
    check_answers(live, channel, version)


def test_the_network_of_a_new_version_is_loaded_with_it(live: Live) -> None:
    publish(live.spec, 1, 3, 4)
    live.control.load(RETRIEVER)
    live.control.load(RECOMMEND_CANARY)
    assert live.control.is_ready("quorum_encoder_quorum_retriever_4")
    check_answers(live, RECOMMEND_CANARY, 4)
    check_answers(live, RECOMMEND, 1)


def check_answers(live: Live, channel: str, version: int) -> None:
    texts = ["red", "blue shoe", "lamp " * 500, *WORDS]
    with Client(live.url) as client:
        items = [RecommendItem(text, k=5) for text in texts]
        found = [*client.recommend_many(items, channel=channel)]
    vectors = ENCODERS[version].keyphrases(WORDS)
    for text, each in zip(texts, found, strict=True):
        scores = sorted((vectors @ ENCODERS[version].items([text])[0]).tolist(), reverse=True)
        # "shoe" and "shoes" are one keyphrase, so of the best six at least five are left.
        assert each.version == version
        assert {round(k.score, 3) for k in each.keyphrases} <= {round(score, 3) for score in scores[:6]}
        assert len(each.keyphrases) == 5

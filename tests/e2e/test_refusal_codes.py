# SPDX-License-Identifier: Apache-2.0
"""Refusals of a real server: ours are known by their code, those of other programs by the listed words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.deployment import ATTRIBUTES, Live, running, title, write_deployment
from support.held import hold
from support.raw import bytes_tensor
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from quorum.repository.configs import parse_config, print_config
from quorum.serving.admission import admission_of
from quorum_client import Client, InvalidRequest, Overloaded, Unavailable
from quorum_contract import GATE
from quorum_contract.foreign import Meaning, meaning_of

# The gate itself, with every sentence replaced by one that means something else to this project.
REWORDED = """
from quorum.serving import gate

WORDS = {
    "Overloaded": "kein Platz (Socket closed)",
    "Unavailable": "Feierabend (protocol is restricted)",
    "InvalidRequest": "unlesbar",
}
refuse = gate.refuse
gate.refuse = lambda error: refuse(type(error)(WORDS[type(error).__name__]))
TritonPythonModel = gate.TritonPythonModel
"""
# Says that it has begun, and waits for leave to go on.
SLOW = """
import time
from pathlib import Path
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        Path(FOLDER, "begun").touch()
        while not Path(FOLDER, "go on").exists():
            time.sleep(0.01)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", np.zeros(1, np.uint8))]) for _ in requests]
"""
SLOW_CONFIG = """
name: "slow"
backend: "python"
max_batch_size: 1
input { name: "X" data_type: TYPE_UINT8 dims: 1 }
output { name: "Y" data_type: TYPE_UINT8 dims: 1 }
instance_group { count: 1 kind: KIND_CPU }
dynamic_batching { default_queue_policy { max_queue_size: 1 } }
"""


@pytest.fixture(params=["as it is", "reworded"])
def narrow(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Live]:
    """A server that admits one request; with the gate's own words, and with others."""
    deploy = write_deployment(tmp_path, {"alpha": {}, "beta": {}}, gate={"max_in_flight": 1})
    with running(deploy) as live:
        if request.param == "reworded":
            folder = live.spec.repository_path / GATE
            config = parse_config((folder / "config.pbtxt").read_text("utf-8"))
            config.backend = "python"
            (folder / "1").mkdir(exist_ok=True)
            (folder / "1" / "model.py").write_text(REWORDED, encoding="utf-8")
            (folder / "config.pbtxt").write_text(print_config(config), encoding="utf-8")
            live.control.load(GATE)
        words = refusal_of_nonsense(live)
        assert ("unlesbar" in words) is (request.param == "reworded")
        yield live


def refusal_of_nonsense(live: Live) -> str:
    request = pb.ModelInferRequest(model_name="quorum")
    for name, raw in (("TEXT", b"\xff"), ("CATEGORY", b""), ("ATTRIBUTES", b"a")):
        request.inputs.add(name=name, datatype="BYTES", shape=[1])
        request.raw_input_contents.append(bytes_tensor([raw]))
    with pytest.raises(grpc.RpcError) as caught:
        live.stub.ModelInfer(request, timeout=30)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    return str(caught.value.details())


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.01)


def test_rewording_the_gates_refusals_changes_nothing_for_clients(
    narrow: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    admission = admission_of(narrow.server.pid or 0)
    with Client(narrow.url) as patient, Client(narrow.url, retries=False) as hasty:
        let_go = hold(admission, 1, 1)
        with pytest.raises(Overloaded) as refused:
            hasty.extract(title(1), ATTRIBUTES)
        assert "[quorum:" not in str(refused.value)
        with monkeypatch.context() as pausing:
            # There is room once the first attempt was refused.
            pausing.setattr("quorum_client._sync_calls.time.sleep", lambda _: let_go())
            assert patient.extract(title(1), ATTRIBUTES).answers, "sent again until there was room"
        assert admission.inside(time.monotonic_ns()) == 0
        admission.close_gate()
        with pytest.raises(Unavailable) as stopping:
            patient.extract(title(1), ATTRIBUTES)
        assert type(stopping.value) is Unavailable
    assert refusal_of_nonsense(narrow).endswith(f" [quorum:{InvalidRequest.code}]")


def slow_request(version: str = "") -> Any:
    request = pb.ModelInferRequest(model_name="slow", model_version=version)
    request.inputs.add(name="X", datatype="UINT8", shape=[1, 1])
    request.raw_input_contents.append(b"\0")
    return request


def test_tritons_own_refusals_are_in_the_table(tmp_path: Path) -> None:
    with running(write_deployment(tmp_path, {"alpha": {}})) as live:
        with pytest.raises(grpc.RpcError) as restricted:
            live.stub.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=30)
        assert restricted.value.code() == grpc.StatusCode.UNAVAILABLE
        assert meaning_of(restricted.value.details()) is Meaning.KEY_WANTED

        folder = live.spec.repository_path / "slow"
        (folder / "1").mkdir(parents=True)
        (folder / "1" / "model.py").write_text(SLOW.replace("FOLDER", repr(str(tmp_path))), encoding="utf-8")
        (folder / "config.pbtxt").write_text(SLOW_CONFIG, encoding="utf-8")
        live.control.load("slow")
        queued = [live.stub.ModelInfer.future(slow_request(), timeout=30) for _ in range(6)]
        wait_until(lambda: any(future.done() for future in queued))
        (tmp_path / "go on").touch()
        errors = [error for future in queued if (error := future.exception())]
        assert 0 < len(errors) < len(queued)
        for name in ("go on", "begun"):
            (tmp_path / name).unlink()
        assert {error.code() for error in errors} == {grpc.StatusCode.UNAVAILABLE}
        assert {meaning_of(error.details()) for error in errors} == {Meaning.FULL}

        asked = live.stub.ModelInfer.future(slow_request(), timeout=30)
        wait_until((tmp_path / "begun").exists)
        key = live.control._metadata
        live.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="slow"), metadata=key)
        with pytest.raises(grpc.RpcError) as unloading:
            live.stub.ModelInfer(slow_request("1"), timeout=30)
        assert unloading.value.code() == grpc.StatusCode.UNAVAILABLE
        assert meaning_of(unloading.value.details()) is Meaning.NOT_READY
        (tmp_path / "go on").touch()
        assert asked.exception() is None


@pytest.mark.parametrize("address", ["127.0.0.1:9", "host.invalid:8001", "unix:/nowhere/there.sock"])
def test_grpcs_failures_to_connect_are_in_the_table(address: str) -> None:
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        GRPCInferenceServiceStub(channel).ServerLive(pb.ServerLiveRequest(), timeout=30)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert meaning_of(caught.value.details()) is Meaning.NO_CONNECTION

# SPDX-License-Identifier: Apache-2.0
"""Errors pass from one process to another as they are."""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import pickle
import pkgutil

import quorum
import quorum_client.errors
import quorum_contract
from quorum_client.errors import ServerError
from quorum_contract.errors import QuorumError


def every_error() -> list[type[QuorumError]]:
    """Every error class of the client and the backend, but for what only runs inside the server."""
    for package in (quorum, quorum_client, quorum_contract):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.startswith("quorum.serving.") and not module.name.endswith("__main__"):
                # Some need what only `quorum tune` needs.
                with contextlib.suppress(ModuleNotFoundError):
                    importlib.import_module(module.name)
    found: list[type[QuorumError]] = [QuorumError]
    for kind in found:
        found += [below for below in kind.__subclasses__() if below not in found]
    return [kind for kind in found if kind.__module__.partition(".")[0].startswith("quorum")]


def instance(kind: type[QuorumError]) -> QuorumError:
    """An error with every argument set to another text."""
    parameters = inspect.signature(kind.__init__).parameters
    if "args" in parameters:
        return kind("what, where, what next")
    return kind(**{name: f"text of {name}" for name in list(parameters)[1:]})


def test_an_error_comes_back_from_another_process_as_it_was() -> None:
    for kind in every_error():
        error = instance(kind)
        for back in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(back) is kind
            assert (str(back), back.args, back.code) == (str(error), error.args, error.code), kind
            assert vars(back) == vars(error), kind


def test_the_error_of_a_server_keeps_its_status_and_its_cause() -> None:
    error = ServerError("refused", status="PERMISSION_DENIED", cause="WEIGHTS_INVALID", request_id="r1")
    back = pickle.loads(pickle.dumps(error))
    assert (back.status, back.cause, back.request_id) == ("PERMISSION_DENIED", "WEIGHTS_INVALID", "r1")

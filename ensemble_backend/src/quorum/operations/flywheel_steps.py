# SPDX-License-Identifier: Apache-2.0
"""Remember inputs and result of each step of a turn, so that a turn that was killed goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from quorum.files import locked, write_atomic
from quorum_contract.errors import QuorumError

STEPS_FILE = "flywheel.json"
_KIND, _SCHEMA = "quorum.flywheel", 1


class FlywheelError(QuorumError, ValueError):
    """A turn cannot begin or go on; the message names the file and the fix."""

    code = "FLYWHEEL_REFUSED"


class _Step(msgspec.Struct, omit_defaults=True):
    inputs: dict[str, Any]
    result: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    seconds: float | msgspec.UnsetType = msgspec.UNSET


class Steps:
    """The steps of one turn in its folder.

    A step is done when its product is there; products appear whole or not at all. Before a step begins, the
    file has its inputs, so that what a killed process made is known as its own.
    """

    def __init__(self, folder: Path) -> None:
        """Read the file of a folder.

        Raises:
            FlywheelError: It cannot be read.
        """
        self.folder, self._path = folder, folder / STEPS_FILE
        self._steps: dict[str, Any] = {}
        if self._path.exists():
            self._steps = self._read()

    @property
    def seconds(self) -> dict[str, float]:
        """Step -> wall time of the process that ended it."""
        return {name: step["seconds"] for name, step in self._steps.items() if "seconds" in step}

    def do(
        self,
        name: str,
        inputs: Mapping[str, Any],
        product: Path | None,
        act: Callable[[], Any],
        describe: Callable[[], Mapping[str, Any]],
    ) -> Any:
        """Do a step unless it is done; its result, as JSON values.

        Args:
            name: Of the step.
            inputs: What decides its product, by the words that a refusal names.
            product: The file that is there when it is done; None: its result is all.
            act: Makes the product.
            describe: Makes the result, when the product is there.

        Raises:
            FlywheelError: The product is there, and was made of other inputs.
        """
        step, exists = self._steps.get(name, {}), product is not None and product.exists()
        # As they read back, with lists for tuples.
        inputs = json.loads(json.dumps(inputs))
        if exists and step.get("inputs") != inputs:
            self._refuse(name, inputs, step.get("inputs"), product)
        if step.get("inputs") == inputs and "result" in step and (exists or product is None):
            return step["result"]
        self._write(name, {"inputs": inputs})
        start = time.monotonic()
        if not exists:
            act()
        result = dict(describe())
        seconds = round(time.monotonic() - start, 3)
        self._write(name, {"inputs": inputs, "result": result, "seconds": seconds})
        return json.loads(json.dumps(result))

    def _refuse(self, name: str, inputs: Mapping[str, Any], before: Any, product: Path | None) -> None:
        if not isinstance(before, dict):
            raise FlywheelError(f"{product}: no step of a turn made it; name another --out")
        others = ", ".join(key for key in inputs if before.get(key) != inputs[key])
        raise FlywheelError(
            f"{self.folder}: {name} was done with other inputs ({others}); go on with what it had, or begin"
            " a turn with another --out"
        )

    def _write(self, name: str, step: Mapping[str, Any]) -> None:
        # Later steps stay: each knows its inputs.
        self._steps[name] = step
        content = {"kind": _KIND, "schema_version": _SCHEMA, "steps": self._steps}
        write_atomic(self._path, json.dumps(content, ensure_ascii=False, indent=2) + "\n")

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self._path.read_text("utf-8"))
            if content["kind"] == _KIND and content["schema_version"] == _SCHEMA:
                steps = msgspec.convert(content["steps"], dict[str, _Step])
                return {name: msgspec.to_builtins(step) for name, step in steps.items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise FlywheelError(f"{self._path}: cannot be read ({error}); name another --out") from error
        raise FlywheelError(f"{self._path}: is of another release; name another --out")


@contextmanager
def one_turn(folder: Path) -> Iterator[Steps]:
    """The steps of a folder, made if needed, which one process has until the block ends.

    Raises:
        BlockingIOError: Another process has it.
        FlywheelError: It is a file, or holds what no turn made.
    """
    if folder.exists() and not folder.is_dir():
        raise FlywheelError(f"{folder}: is a file; name a folder by --out")
    lock = folder / ".lock"
    if folder.is_dir() and not lock.exists() and (others := sorted(p.name for p in folder.iterdir())):
        raise FlywheelError(f"{folder}: holds {others[0]!r}, and no turn; name another --out")
    folder.mkdir(parents=True, exist_ok=True)
    lock.touch()
    with locked(lock):
        yield Steps(folder)

# SPDX-License-Identifier: Apache-2.0
"""Remember what each step of a turn made, and of what, so that a turn that was killed goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quorum.files import locked, write_atomic
from quorum_contract.errors import QuorumError

STEPS_FILE = "flywheel.json"
_KIND, _SCHEMA = "quorum.flywheel", 1


class FlywheelError(QuorumError, ValueError):
    """A turn cannot begin or go on; the message names the file and the fix."""

    code = "FLYWHEEL_REFUSED"


class Steps:
    """The steps of one turn in its folder.

    A step is done when its product is there; products appear whole or not at all. Before a step begins, the
    file says what it is of, so that what a killed process made is known as its own.
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
        return {name: found["seconds"] for name, found in self._steps.items() if "seconds" in found}

    def do(
        self,
        name: str,
        of: Mapping[str, Any],
        product: Path | None,
        act: Callable[[], Any],
        describe: Callable[[], Mapping[str, Any]],
    ) -> Any:
        """Do a step unless it is done; what it says of itself, as JSON values.

        Args:
            name: Of the step.
            of: What decides its product, by the words that a refusal names.
            product: The file that is there when it is done; None: what it says of itself is all.
            act: Makes the product.
            describe: Called when the product is there.

        Raises:
            FlywheelError: The product is there, and of something else.
        """
        known, there = self._steps.get(name, {}), product is not None and product.exists()
        # As it reads back, with lists for tuples.
        of = json.loads(json.dumps(of))
        if there and known.get("of") != of:
            self._refuse(name, of, known.get("of"), product)
        if known.get("of") == of and "said" in known and (there or product is None):
            return known["said"]
        self._write(name, {"of": of})
        start = time.monotonic()
        if not there:
            act()
        said = dict(describe())
        self._write(name, {"of": of, "said": said, "seconds": round(time.monotonic() - start, 3)})
        return json.loads(json.dumps(said))

    def _refuse(self, name: str, of: Mapping[str, Any], known: Any, product: Path | None) -> None:
        if not isinstance(known, dict):
            raise FlywheelError(f"{product}: no step of a turn made it; name another --out")
        others = ", ".join(key for key in of if known.get(key) != of[key])
        raise FlywheelError(
            f"{self.folder}: {name} was done with other inputs ({others}); go on with what it had, or begin"
            " a turn with another --out"
        )

    def _write(self, name: str, found: Mapping[str, Any]) -> None:
        # Later steps stay: each knows what it is of.
        self._steps[name] = found
        content = {"kind": _KIND, "schema_version": _SCHEMA, "steps": self._steps}
        write_atomic(self._path, json.dumps(content, ensure_ascii=False, indent=2) + "\n")

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._path.read_text("utf-8"))
            if found["kind"] == _KIND and found["schema_version"] == _SCHEMA:
                steps: dict[str, Any] = {name: dict(step) for name, step in found["steps"].items()}
                return steps
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

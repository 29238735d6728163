# SPDX-License-Identifier: Apache-2.0
"""Types that are checked when something is made."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from typing import Any, TypeVar

Made = TypeVar("Made")


def strict(cls: type[Made]) -> type[Made]:
    """Refuse arguments that are not of the annotated types."""
    make = cls.__init__

    @functools.wraps(make)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = inspect.signature(make).bind(self, *args, **kwargs)
        hints = typing.get_type_hints(cls)
        for name, value in bound.arguments.items():
            if name in hints:
                check(f"{cls.__name__}.{name}", value, hints[name])
        make(self, *args, **kwargs)

    cls.__init__ = checked  # type: ignore[method-assign]
    return cls


def check(where: str, value: Any, hint: Any) -> None:
    """Raise ``TypeError`` if the value is not of that type; a bool is no int, an int is a float."""
    if not fits(value, hint):
        raise TypeError(f"{where}: {value!r} is not {hint}")


def fits(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in args)
    if origin is typing.Literal:
        return value in args
    if origin is list:
        return isinstance(value, list) and all(fits(one, args[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(v, args[1]) for v in value.values())
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)

# SPDX-License-Identifier: Apache-2.0
"""Export a base as a student that was taught nothing: what every student is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quorum.distill.student import Student
from quorum.distill.write import finish, write_student
from quorum.retrieval.manifest import StudentManifest
from quorum.tune.base import BaseModelError, read_base

_COMPARED = ("wireless mouse", "leather shoes for men, black, size 43", "usb cable")
"""Texts whose vectors by ONNX and by PyTorch are compared."""


def write_zero_shot(base: Path, folder: Path, dims: Sequence[int], max_tokens: int) -> StudentManifest:
    """Write a student's files into a folder: the base with mean pooling, and no adapter.

    Args:
        base: Folder of an encoder in the format of transformers.
        folder: Exists, and is empty.
        dims: Dimensions that its vectors may be cut to, descending; of a base with fewer than the first,
            all of its own in place of that.
        max_tokens: Longest text, special tokens included.

    Raises:
        BaseModelError: ``base`` holds no encoder.
        OnnxError: It cannot be exported as it is.
    """
    found = read_base(base)
    if found.architecture != "encoder":
        raise BaseModelError(f"{base}: is a causal LLM; name an encoder")
    student = Student(found, "adapter", dims[0], max_tokens)
    largest = student.adapter.dims
    write_student(student, _COMPARED, folder)
    return finish(
        folder,
        StudentManifest(
            dims=(largest, *(size for size in dims if size < largest)),
            max_tokens=max_tokens,
            base={"name": base.name, "hash": found.hash},
            licence=found.licence,
            remarks=("the base as it is: nothing was taught",),
        ),
    )

# SPDX-License-Identifier: Apache-2.0
"""Calls from one model to another inside the server (Triton's business logic scripting)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import triton_python_backend_utils as pb_utils

from quorum.runtimes.base import Array, InnerError


def call(
    model: str, inputs: Mapping[str, Array], outputs: Sequence[str], request_id: str
) -> dict[str, Array]:
    """Ask a model and wait for its answer; the wait has no end of its own.

    Args:
        model: Name of the Triton model.
        inputs: Tensors by name; BYTES as arrays of ``bytes`` objects.
        outputs: Names of the tensors wanted.
        request_id: What a later request may refer to.

    Raises:
        InnerError: The model answered with an error.
    """
    request = pb_utils.InferenceRequest(
        model_name=model,
        request_id=request_id,
        requested_output_names=list(outputs),
        inputs=[pb_utils.Tensor(name, array) for name, array in inputs.items()],
    )
    response = request.exec()
    if response.has_error():
        raise InnerError(f"{model}: {response.error().message()}")
    return {name: pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in outputs}

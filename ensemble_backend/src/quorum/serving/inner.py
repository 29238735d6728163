# SPDX-License-Identifier: Apache-2.0
"""Call one model from another inside the server (Triton's business logic scripting)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import triton_python_backend_utils as pb_utils

from quorum.runtimes.base import Array, InnerError


def call(
    model: str, inputs: Mapping[str, Array], outputs: Sequence[str], request_id: str
) -> dict[str, Array]:
    """Call a model and wait for its response, without a time limit.

    BYTES inputs are arrays of ``bytes`` objects. A later request may refer to this one by ``request_id``.
    Raises InnerError if the model returned an error.
    """
    request = pb_utils.InferenceRequest(
        model_name=model,
        request_id=request_id,
        requested_output_names=list(outputs),
        inputs=[pb_utils.Tensor(name, array) for name, array in inputs.items()],
        # Of a model on a GPU they would else stay there, where NumPy cannot read them.
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
    )
    response = request.exec()
    if response.has_error():
        raise InnerError(f"{model}: {response.error().message()}")
    return {name: pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in outputs}

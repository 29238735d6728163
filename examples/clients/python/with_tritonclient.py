# SPDX-License-Identifier: Apache-2.0
"""Ask by Triton's own client, tritonclient[grpc]: python with_tritonclient.py HOST:PORT TEXT NAMES."""

import os
import sys

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException


def strings(name: str, values: list[str]) -> InferInput:
    tensor = InferInput(name, [len(values)], "BYTES")
    tensor.set_data_from_numpy(np.array([value.encode() for value in values], dtype=object))
    return tensor


def main() -> None:
    address, text, attributes = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
    key = os.environ.get("QUORUM_INFERENCE_KEY")
    client = InferenceServerClient(address)
    try:
        answer = client.infer(
            "quorum",
            [strings("TEXT", [text]), strings("CATEGORY", [""]), strings("ATTRIBUTES", attributes)],
            timeout=5_000_000,  # microseconds, for the members
            client_timeout=6,  # seconds, for the call
            headers={"authorization": f"Bearer {key}"} if key else None,
        )
    except InferenceServerException as error:
        sys.exit(f"{error.status()}: {error.message()}")
    members = [member.decode() for member in answer.as_numpy("MEMBERS")]
    for i, attribute in enumerate(attributes):
        value = answer.as_numpy("VALUES")[i].decode()
        print(f"{attribute} = {value} ({answer.as_numpy('CONFIDENCE')[i]:.2f})")
        for j, member in enumerate(members):
            vote, status = answer.as_numpy("MEMBER_VALUES")[j, i], answer.as_numpy("MEMBER_STATUS")[j, i]
            print(f"  {member} {status} {vote.decode()}")
    print("version", answer.as_numpy("WEIGHTS_VERSION")[0])


main()

# SPDX-License-Identifier: Apache-2.0
"""A stand-in for Triton's C++ backend ``tensorrtllm``: takes its configuration as rendered; real tokens.

The engine folder holds a model for OpenVINO. What the C++ backend refuses is refused here too: guidance
without the tokenizer's description, a stop without a request id, an adapter that is not in
``lora_prefetch_dir``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from tensorrt_llm import LLM, GuidedDecodingParams, SamplingParams


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        said = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._said = {key: value for key, value in said.items() if not value.startswith("${")}
        assert self._said["gpt_model_type"] in ("inflight_fused_batching", "inflight_batching", "V1", "v1")
        assert self._said["batch_scheduler_policy"] in ("guaranteed_no_evict", "max_utilization")
        path = self._said.get("xgrammar_tokenizer_info_path")
        guided = "xgrammar" if path and Path(path).is_file() else None
        self._llm = LLM(
            model=self._said["gpt_model_path"],
            guided_decoding_backend=guided,
            max_batch_size=64,
            max_seq_len=512,
        )
        self._live: dict[str, Any] = {}

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._take(request, sender)
            except Exception as error:
                self._refuse(sender, str(error))

    def _take(self, request: Any, sender: Any) -> None:
        number = request.request_id()
        if value(request, "stop"):
            if not number:
                raise ValueError("Cannot send stop request without specifying a request_id")
            if number in self._live:
                self._live[number].abort()
            sender.send(answer([], 0), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            return
        tokens = pb_utils.get_input_tensor_by_name(request, "input_ids").as_numpy().reshape(-1).tolist()
        assert len(tokens) == value(request, "input_lengths")
        task = value(request, "lora_task_id")
        if task is not None and not (Path(self._said["lora_prefetch_dir"]) / str(task)).is_dir():
            raise ValueError(f"LoRA task {task} is not cached")
        kind, guide = value(request, "guided_decoding_guide_type"), value(request, "guided_decoding_guide")
        assert kind in (None, b"json", b"json_schema", b"regex", b"ebnf_grammar"), kind
        assert value(request, "exclude_input_in_output") or self._said["exclude_input_in_output"] == "true"
        result = self._llm.generate_async(
            inputs=tokens,
            sampling_params=SamplingParams(
                max_tokens=int(value(request, "request_output_len")),
                top_k=int(value(request, "runtime_top_k")),
                guided_decoding=GuidedDecodingParams(regex=guide.decode()) if kind == b"regex" else None,
                logprobs=1 if value(request, "return_log_probs") else None,
                stop_token_ids=stop_tokens(request),
                include_stop_str_in_output=True,
            ),
        )
        self._live[number] = result
        threading.Thread(target=self._wait, args=(number, result, sender), daemon=True).start()

    def _wait(self, number: str, result: Any, sender: Any) -> None:
        try:
            output = result.result().outputs[0]
            known = [one.logprob for pairs in output.logprobs for one in pairs.values()]
            if self._said.get("normalize_log_probs") != "false":
                # Of the token among the best one: certain.
                known = [0.0] * len(known)
            # The real one fills the row up with end_id.
            sender.send(
                answer(output.token_ids, 3, known), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
            )
        except Exception as error:
            self._refuse(sender, str(error))
        finally:
            del self._live[number]

    def _refuse(self, sender: Any, message: str) -> None:
        response = pb_utils.InferenceResponse(error=pb_utils.TritonError(message))
        sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def finalize(self) -> None:
        self._llm.shutdown()


def stop_tokens(request: Any) -> list[int] | None:
    """Words of one token, of all tokens and the places where each word ends; -1 pads the places."""
    tensor = pb_utils.get_input_tensor_by_name(request, "stop_words_list")
    if tensor is None:
        return None
    ((tokens, ends),) = tensor.as_numpy().tolist()
    ends = [end for end in ends if end != -1]
    assert ends == list(range(1, len(tokens) + 1)), (tokens, ends)
    return [int(token) for token in tokens]


def value(request: Any, name: str) -> Any:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy().reshape(-1)[0]


def answer(tokens: list[int], padding: int, log_probs: Sequence[float] = ()) -> Any:
    ids = np.array([[[*tokens, *[0] * padding]]], np.int32)
    length = np.array([[len(tokens)]], np.int32)
    # Zeros where nobody asked.
    known = np.zeros((1, 1, len(tokens)), np.float32)
    known[0, 0, : len(log_probs)] = log_probs
    tensors = {"output_ids": ids, "sequence_length": length, "output_log_probs": known}
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in tensors.items()])

# SPDX-License-Identifier: Apache-2.0
"""A stand-in for TensorRT-LLM 1.2.1's LLM API, for tests on machines without a GPU.

Its signatures are the documented ones (tests/contract/data/llm_api.json holds them as tables), unknown
arguments and wrong types are refused, and its tokens are real: OpenVINO GenAI serves the model. Tests put it
on the path of a server by an interpreter of their own (tests/support/standin.py); nothing installs it.

A file ``standin.json`` beside the model makes it misbehave; ``standin.jsonl`` there tells what it was asked.
"""

from .llm import LLM
from .sampling_params import GuidedDecodingParams, SamplingParams

__version__ = "1.2.1"
__all__ = ["LLM", "GuidedDecodingParams", "SamplingParams"]

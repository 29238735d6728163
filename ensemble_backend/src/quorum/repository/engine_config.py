# SPDX-License-Identifier: Apache-2.0
"""Configure Triton's C++ backend for compiled engines, as of TensorRT-LLM 1.2.1; unverified on GPU.

Names, types and dims are those of ``inflight_batcher_llm/tensorrt_llm/config.pbtxt``, its variables filled as
for engines with FP32 logits (the default of ``trtllm-build``). An unset parameter keeps the name of its
variable, as the template's own tool leaves it: the backend reads that as unset.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from tritonclient.grpc import model_config_pb2 as pb

from quorum.deployment.load import DeploymentError
from quorum.deployment.schema import Deployment, MemberSpec
from quorum.hardware import GIB
from quorum.runtimes.engine_names import LORA_FOLDER, PREFIX, TOKENIZER_INFO
from quorum.runtimes.kv_cache import kv_bytes_per_token
from quorum.runtimes.options import EngineOptions

_WORKER = "/opt/tritonserver/backends/tensorrtllm/trtllmExecutorWorker"

_INPUTS = """
INT32 [-1] optional ragged: input_ids
FP16 [-1,-1] optional ragged: encoder_input_features
INT32 [1] optional scalar: encoder_output_lengths
INT32 [1] scalar: input_lengths request_output_len
INT32 [1] optional scalar: num_return_sequences
INT32 [-1] optional ragged: draft_input_ids decoder_input_ids
INT32 [1] optional scalar: decoder_input_lengths
FP32 [-1,-1] optional ragged: draft_logits
FP32 [1] optional scalar: draft_acceptance_threshold
INT32 [1] optional scalar: end_id pad_id
INT32 [2,-1] optional ragged: stop_words_list bad_words_list
FP32 [-1] optional ragged: embedding_bias
INT32 [1] optional scalar: beam_width
FP32 [1] optional scalar: temperature
INT32 [1] optional scalar: runtime_top_k
FP32 [1] optional scalar: runtime_top_p runtime_top_p_min runtime_top_p_decay
INT32 [1] optional scalar: runtime_top_p_reset_ids
FP32 [1] optional scalar: len_penalty
BOOL [1] optional scalar: early_stopping
FP32 [1] optional scalar: repetition_penalty
INT32 [1] optional scalar: min_tokens
FP32 [1] optional scalar: beam_search_diversity_rate presence_penalty frequency_penalty
UINT64 [1] optional scalar: seed
BOOL [1] optional scalar: return_log_probs return_context_logits return_generation_logits
BOOL [1] optional scalar: return_perf_metrics return_num_input_tokens return_num_output_tokens
BOOL [1] optional scalar: exclude_input_in_output stop streaming
FP16 [-1,-1] optional ragged: prompt_embedding_table
UINT64 [-1] optional ragged: prompt_table_extra_ids
INT32 [1] optional scalar: prompt_vocab_size
BOOL [-1,-1] optional ragged: cross_attention_mask
FP32 [-1] optional: mrope_rotary_cos_sin
INT64 [1] optional: mrope_position_deltas
UINT64 [1] optional scalar: lora_task_id
FP16 [-1,-1] optional ragged: lora_weights
INT32 [-1,3] optional ragged: lora_config
UINT8 [-1] optional ragged: context_phase_params
BOOL [1] optional ragged: skip_cross_attn_blocks
INT32 [-1] optional ragged: retention_token_range_starts retention_token_range_ends
INT32 [-1] optional ragged: retention_token_range_priorities retention_token_range_durations_ms
INT32 [1] optional ragged: retention_decode_priority retention_decode_duration_ms
STRING [1] optional ragged: guided_decoding_guide_type guided_decoding_guide
INT32 [1] optional ragged: lookahead_window_size lookahead_ngram_size lookahead_verification_set_size
"""
_OUTPUTS = """
INT32 [-1,-1]: output_ids
INT32 [-1]: sequence_length
FP32 [-1]: cum_log_probs
FP32 [-1,-1]: output_log_probs context_logits
FP32 [-1,-1,-1]: generation_logits
INT32 [1]: batch_index sequence_index
UINT8 [-1]: context_phase_params
INT32 [1]: kv_cache_alloc_new_blocks kv_cache_reused_blocks kv_cache_alloc_total_blocks
INT64 [1]: arrival_time_ns first_scheduled_time_ns first_token_time_ns last_token_time_ns
FP32 [1]: acceptance_rate
INT32 [1]: total_accepted_draft_tokens total_draft_tokens num_input_tokens num_output_tokens
"""
_PARAMETERS = """
max_beam_width FORCE_CPU_ONLY_INPUT_TENSORS gpt_model_type gpt_model_path encoder_model_path
max_tokens_in_paged_kv_cache max_attention_window_size sink_token_length batch_scheduler_policy
kv_cache_free_gpu_mem_fraction cross_kv_cache_fraction kv_cache_host_memory_bytes kv_cache_onboard_blocks
enable_trt_overlap exclude_input_in_output cancellation_check_period_ms stats_check_period_ms
iter_stats_max_iterations request_stats_max_iterations enable_kv_cache_reuse normalize_log_probs
enable_chunked_context gpu_device_ids participant_ids num_nodes lora_cache_optimal_adapter_size
lora_cache_max_adapter_size lora_cache_gpu_memory_fraction lora_cache_host_memory_bytes lora_prefetch_dir
decoding_mode executor_worker_path lookahead_window_size lookahead_ngram_size
lookahead_verification_set_size medusa_choices eagle_choices gpu_weights_percent
enable_context_fmha_fp32_acc multi_block_mode cuda_graph_mode cuda_graph_cache_size
speculative_decoding_fast_logits tokenizer_dir guided_decoding_backend xgrammar_tokenizer_info_path
"""
# Parameters whose variables in the template have another name.
_VARIABLES = {
    "gpt_model_type": "batching_strategy",
    "gpt_model_path": "engine_dir",
    "encoder_model_path": "encoder_engine_dir",
}


def engine_config(spec: Deployment, member: MemberSpec) -> pb.ModelConfig:
    """Configure the Triton model that serves a member's engine.

    Raises DeploymentError if ``kv_cache_gib`` is set and no engine exists to compute bytes per token from.
    """
    options = member.options
    assert isinstance(options, EngineOptions), member.runtime
    model = f"{PREFIX}{member.name}"
    config = pb.ModelConfig(name=model, backend="tensorrtllm", max_batch_size=options.max_batch_size)
    config.model_transaction_policy.decoupled = False
    config.dynamic_batching.preferred_batch_size.append(config.max_batch_size)
    config.dynamic_batching.default_queue_policy.max_queue_size = 0
    for name, kind, dims, flags in _tensors(_INPUTS):
        tensor = config.input.add(name=name, data_type=kind, dims=dims)
        tensor.optional, tensor.allow_ragged_batch = "optional" in flags, "ragged" in flags
        if "scalar" in flags:
            tensor.reshape.SetInParent()
    for name, kind, dims, _ in _tensors(_OUTPUTS):
        config.output.add(name=name, data_type=kind, dims=dims)
    config.instance_group.add(count=1, kind=pb.ModelInstanceGroup.KIND_CPU)
    parameters = _settings(spec, member.name, options)
    for key in _PARAMETERS.split():
        config.parameters[key].string_value = parameters.get(key, f"${{{_VARIABLES.get(key, key)}}}")
    return config


def _tensors(table: str) -> Iterator[tuple[str, str, list[int], list[str]]]:
    """Name, type, dims and flags of each tensor of a table, in its order."""
    for line in table.strip().splitlines():
        declaration, names = line.split(":")
        kind, dims, *flags = declaration.split()
        for name in names.split():
            yield name, f"TYPE_{kind}", json.loads(dims), flags


def _settings(spec: Deployment, name: str, options: EngineOptions) -> dict[str, str]:
    """The parameters that are set."""
    folder = options.engine
    parameters = {
        "max_beam_width": "1",
        "FORCE_CPU_ONLY_INPUT_TENSORS": "no",
        "gpt_model_type": "inflight_fused_batching",
        "gpt_model_path": folder,
        "batch_scheduler_policy": "guaranteed_no_evict",
        "enable_kv_cache_reuse": "true",
        "exclude_input_in_output": "true",
        "executor_worker_path": _WORKER,
    }
    if options.scores:
        # Else a log-probability is of the token among the top_k best: 0 for the best one.
        parameters["normalize_log_probs"] = "false"
    if options.kv_cache_fraction is not None:
        parameters["kv_cache_free_gpu_mem_fraction"] = str(options.kv_cache_fraction)
    if options.kv_cache_gib is not None:
        tokens = int(options.kv_cache_gib * GIB) // _kv_bytes_per_token(spec, name, folder)
        parameters["max_tokens_in_paged_kv_cache"] = str(tokens)
    if options.gpus or options.tensor_parallel > 1:
        parameters["gpu_device_ids"] = ",".join(map(str, options.devices))
    if options.guided:
        parameters["guided_decoding_backend"] = "xgrammar"
        parameters["xgrammar_tokenizer_info_path"] = f"{folder}/{TOKENIZER_INFO}"
    if options.lora:
        parameters["lora_prefetch_dir"] = f"{folder}/{LORA_FOLDER}"
    return parameters


def _kv_bytes_per_token(spec: Deployment, name: str, engine: str) -> int:
    """KV cache bytes per token of an engine on each GPU: the backend's limit is in tokens."""
    path = spec.root / engine / "config.json"
    try:
        model = json.loads(path.read_text("utf-8"))["pretrained_config"]
        quantised = (model.get("quantization") or {}).get("kv_cache_quant_algo")
        return kv_bytes_per_token(
            layers=int(model["num_hidden_layers"]),
            kv_heads=int(model.get("num_key_value_heads") or model["num_attention_heads"]),
            head_dim=int(model.get("head_size") or model["hidden_size"] // model["num_attention_heads"]),
            tensor_parallel=int(model.get("mapping", {}).get("tp_size", 1)),
            bytes_each=1 if quantised else 2,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DeploymentError(
            f"{spec.path}: member {name}: kv_cache_gib is turned into tokens by {path}, which cannot be read"
            f" ({error!r}); run `quorum build {name}` and render again, or set kv_cache_fraction"
        ) from error

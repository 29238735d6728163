# SPDX-License-Identifier: Apache-2.0
"""Configure Triton's C++ backend for compiled engines, as of TensorRT-LLM 1.2.1; unverified on GPU.

Names, types and dims are those of ``inflight_batcher_llm/tensorrt_llm/config.pbtxt``, its variables filled as
for engines with FP32 logits (the default of ``trtllm-build``). An unset parameter keeps the name of its
variable, as the template's own tool leaves it: the backend reads that as unset.
"""

from __future__ import annotations

import json

from tritonclient.grpc import model_config_pb2 as pb

from quorum.deployment.load import DeploymentError
from quorum.deployment.schema import Deployment, MemberSpec
from quorum.hardware import GIB
from quorum.runtimes.engine_names import LORA_FOLDER, PREFIX, TOKENIZER_INFO
from quorum.runtimes.kv_cache import kv_bytes_per_token
from quorum.runtimes.options import EngineOptions

_WORKER = "/opt/tritonserver/backends/tensorrtllm/trtllmExecutorWorker"

_INPUTS = """
input_ids INT32 [-1] optional ragged
encoder_input_features FP16 [-1,-1] optional ragged
encoder_output_lengths INT32 [1] optional scalar
input_lengths INT32 [1] scalar
request_output_len INT32 [1] scalar
num_return_sequences INT32 [1] optional scalar
draft_input_ids INT32 [-1] optional ragged
decoder_input_ids INT32 [-1] optional ragged
decoder_input_lengths INT32 [1] optional scalar
draft_logits FP32 [-1,-1] optional ragged
draft_acceptance_threshold FP32 [1] optional scalar
end_id INT32 [1] optional scalar
pad_id INT32 [1] optional scalar
stop_words_list INT32 [2,-1] optional ragged
bad_words_list INT32 [2,-1] optional ragged
embedding_bias FP32 [-1] optional ragged
beam_width INT32 [1] optional scalar
temperature FP32 [1] optional scalar
runtime_top_k INT32 [1] optional scalar
runtime_top_p FP32 [1] optional scalar
runtime_top_p_min FP32 [1] optional scalar
runtime_top_p_decay FP32 [1] optional scalar
runtime_top_p_reset_ids INT32 [1] optional scalar
len_penalty FP32 [1] optional scalar
early_stopping BOOL [1] optional scalar
repetition_penalty FP32 [1] optional scalar
min_tokens INT32 [1] optional scalar
beam_search_diversity_rate FP32 [1] optional scalar
presence_penalty FP32 [1] optional scalar
frequency_penalty FP32 [1] optional scalar
seed UINT64 [1] optional scalar
return_log_probs BOOL [1] optional scalar
return_context_logits BOOL [1] optional scalar
return_generation_logits BOOL [1] optional scalar
return_perf_metrics BOOL [1] optional scalar
return_num_input_tokens BOOL [1] optional scalar
return_num_output_tokens BOOL [1] optional scalar
exclude_input_in_output BOOL [1] optional scalar
stop BOOL [1] optional scalar
streaming BOOL [1] optional scalar
prompt_embedding_table FP16 [-1,-1] optional ragged
prompt_table_extra_ids UINT64 [-1] optional ragged
prompt_vocab_size INT32 [1] optional scalar
cross_attention_mask BOOL [-1,-1] optional ragged
mrope_rotary_cos_sin FP32 [-1] optional
mrope_position_deltas INT64 [1] optional
lora_task_id UINT64 [1] optional scalar
lora_weights FP16 [-1,-1] optional ragged
lora_config INT32 [-1,3] optional ragged
context_phase_params UINT8 [-1] optional ragged
skip_cross_attn_blocks BOOL [1] optional ragged
retention_token_range_starts INT32 [-1] optional ragged
retention_token_range_ends INT32 [-1] optional ragged
retention_token_range_priorities INT32 [-1] optional ragged
retention_token_range_durations_ms INT32 [-1] optional ragged
retention_decode_priority INT32 [1] optional ragged
retention_decode_duration_ms INT32 [1] optional ragged
guided_decoding_guide_type STRING [1] optional ragged
guided_decoding_guide STRING [1] optional ragged
lookahead_window_size INT32 [1] optional ragged
lookahead_ngram_size INT32 [1] optional ragged
lookahead_verification_set_size INT32 [1] optional ragged
"""
_OUTPUTS = """
output_ids INT32 [-1,-1]
sequence_length INT32 [-1]
cum_log_probs FP32 [-1]
output_log_probs FP32 [-1,-1]
context_logits FP32 [-1,-1]
generation_logits FP32 [-1,-1,-1]
batch_index INT32 [1]
sequence_index INT32 [1]
context_phase_params UINT8 [-1]
kv_cache_alloc_new_blocks INT32 [1]
kv_cache_reused_blocks INT32 [1]
kv_cache_alloc_total_blocks INT32 [1]
arrival_time_ns INT64 [1]
first_scheduled_time_ns INT64 [1]
first_token_time_ns INT64 [1]
last_token_time_ns INT64 [1]
acceptance_rate FP32 [1]
total_accepted_draft_tokens INT32 [1]
total_draft_tokens INT32 [1]
num_input_tokens INT32 [1]
num_output_tokens INT32 [1]
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

    Raises:
        DeploymentError: ``kv_cache_gib`` is set, but no engine exists to compute the bytes per token from.
    """
    name, options = member.name, member.options
    assert isinstance(options, EngineOptions), member.runtime
    config = pb.ModelConfig(
        name=f"{PREFIX}{name}", backend="tensorrtllm", max_batch_size=options.max_batch_size
    )
    config.model_transaction_policy.decoupled = False
    config.dynamic_batching.preferred_batch_size.append(config.max_batch_size)
    config.dynamic_batching.default_queue_policy.max_queue_size = 0
    for line in _INPUTS.strip().splitlines():
        label, kind, dims, *flags = line.split()
        tensor = config.input.add(name=label, data_type=f"TYPE_{kind}", dims=json.loads(dims))
        tensor.optional, tensor.allow_ragged_batch = "optional" in flags, "ragged" in flags
        if "scalar" in flags:
            tensor.reshape.SetInParent()
    for line in _OUTPUTS.strip().splitlines():
        label, kind, dims = line.split()
        config.output.add(name=label, data_type=f"TYPE_{kind}", dims=json.loads(dims))
    config.instance_group.add(count=1, kind=pb.ModelInstanceGroup.KIND_CPU)
    parameters = _settings(spec, name, options)
    for key in _PARAMETERS.split():
        config.parameters[key].string_value = parameters.get(key, f"${{{_VARIABLES.get(key, key)}}}")
    return config


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
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeploymentError(
            f"{spec.path}: member {name}: kv_cache_gib is turned into tokens by {path}, which cannot be read"
            f" ({error!r}); run `quorum build {name}` and render again, or set kv_cache_fraction"
        ) from error

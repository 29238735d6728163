# SPDX-License-Identifier: Apache-2.0
"""Read the shape of a language model, for memory arithmetic, from ``config.json`` or a table."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import field
from msgspec.structs import replace

from quorum.build.checkpoint import BuildError, Kind, read_json, stored_parameters
from quorum.runtimes.kv_cache import kv_bytes_per_token
from quorum.runtimes.option_base import Count, CountOrZero

_DTYPES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0}
# Bytes per weight of the linear layers, scales included: an FP32 scale per tensor is negligible, AWQ has an
# FP16 scale per 128 weights, NVFP4 an FP8 scale per 16, weight-only formats an FP16 scale per channel.
_QUANTISED: dict[str, float] = {
    "fp8": 1.0,
    "int8_sq": 1.0,
    "int8_wo": 1.0,
    "int4_wo": 0.5,
    "int4_awq": 0.5 + 2 / 128,
    "w4a8_awq": 0.5 + 2 / 128,
    "nvfp4": 0.5 + 1 / 16,
}
QUANTISATIONS = tuple(_QUANTISED)
# ModelOpt's names, TensorRT-LLM's, and those of Hugging Face's quantization_config.
_METHODS = {
    "FP8": "fp8",
    "W4A16_AWQ": "int4_awq",
    "W4A8_AWQ": "w4a8_awq",
    "NVFP4": "nvfp4",
    "W8A16": "int8_wo",
    "W4A16": "int4_wo",
    "W8A8_SQ_PER_CHANNEL": "int8_sq",
    "awq": "int4_awq",
    "gptq": "int4_awq",
    "fp8": "fp8",
    "fbgemm_fp8": "fp8",
}
_BIASED = ("qwen2",)
_FOUR_NORMS = ("gemma2", "gemma3_text")
_QK_NORMS = ("qwen3", "gemma3_text")


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """A decoder-only transformer; the names of fields are keys of ``config.json``.

    Attributes:
        name: A folder, or a Hugging Face id.
        heads: Query heads.
        kv_heads: Key and value heads; by default as many as query heads.
        head_dim: Width of one head; by default its share of ``hidden``.
        tied: Whether output and input embeddings are one matrix.
        stored_bytes: Size of its local weight files; 0 without.
        counted: Parameters in those files, unless they are quantised; the formula's number otherwise.
        quantisation: Of the stored weights, e.g. ``fp8``; empty for none.
        kv_quantised: Whether the checkpoint sets an FP8 KV cache.
    """

    name: str
    family: str = field(name="model_type")
    layers: Count = field(name="num_hidden_layers")
    hidden: Count = field(name="hidden_size")
    heads: Count = field(name="num_attention_heads")
    kv_heads: CountOrZero = field(name="num_key_value_heads", default=0)
    head_dim: CountOrZero = 0
    intermediate: Count = field(name="intermediate_size")
    vocabulary: Count = field(name="vocab_size")
    max_positions: Count = field(name="max_position_embeddings")
    dtype: str
    tied: bool = field(name="tie_word_embeddings")
    stored_bytes: int = 0
    counted: int = 0
    quantisation: str = ""
    kv_quantised: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        """Fill in what configurations leave out."""
        msgspec.structs.force_setattr(self, "kv_heads", self.kv_heads or self.heads)
        msgspec.structs.force_setattr(self, "head_dim", self.head_dim or self.hidden // self.heads)
        if not self.head_dim:
            raise ValueError(f"{self.heads} heads share a width of {self.hidden}")

    @property
    def linear_parameters(self) -> int:
        """Weights of the layers' matrices, which quantisation shrinks."""
        if self.counted:
            return self.counted - self.other_parameters
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def other_parameters(self) -> int:
        """Embeddings, norms and biases, which stay in the model's own type."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        norms = (4 if self.family in _FOUR_NORMS else 2) * self.hidden
        if self.family in _QK_NORMS:
            norms += 2 * self.head_dim
        biases = self.head_dim * (self.heads + 2 * self.kv_heads) if self.family in _BIASED else 0
        return embeddings + self.layers * (norms + biases) + self.hidden

    @property
    def parameters(self) -> int:
        """All parameters; tied ones count once."""
        return self.linear_parameters + self.other_parameters

    def weight_bytes(self, dtype: str = "auto", quantisation: str = "") -> int:
        """Bytes of the weights once loaded.

        Args:
            dtype: ``float16``, ``bfloat16``, ``float32``, or ``auto`` for the stored one.
            quantisation: One of :data:`QUANTISATIONS`; empty: the checkpoint's own.

        Raises:
            BuildError: The type or the quantisation is unknown.
        """
        plain = self.dtype if dtype == "auto" else dtype
        if dtype == "auto" and plain == "float32":
            plain = "float16"  # TensorRT-LLM converts such checkpoints
        if plain not in _DTYPES:
            raise BuildError(f"{self.name}: dtype {plain!r} is unknown; use auto, {', '.join(_DTYPES)}")
        chosen = quantisation or self.quantisation
        if chosen and chosen not in _QUANTISED:
            raise BuildError(f"{self.name}: quantisation {chosen!r} is unknown; use {', '.join(_QUANTISED)}")
        if self.stored_bytes and self.quantisation == chosen and plain == self.dtype:
            return self.stored_bytes
        linear = _QUANTISED[chosen] if chosen else _DTYPES[plain]
        return round(self.linear_parameters * linear + self.other_parameters * _DTYPES[plain])

    def kv_bytes_per_token(self, tensor_parallel: int = 1, each: int = 2) -> int:
        """Bytes of one token's keys and values on each GPU, at ``each`` bytes per number."""
        sizes = {"layers": self.layers, "kv_heads": self.kv_heads, "head_dim": self.head_dim}
        return kv_bytes_per_token(**sizes, tensor_parallel=tensor_parallel, bytes_each=each)


def find_shape(model: str, root: Path) -> Shape:
    """Find the shape of a model: a folder relative to ``root``, or a known model's Hugging Face id.

    Raises:
        BuildError: It is neither a folder with a readable ``config.json`` nor a known model.
    """
    folder = root / model
    if folder.is_dir():
        return read_shape(folder)
    plain, method = split_quantised(folder.name)
    if method and folder.with_name(plain).is_dir():
        return _as_quantised(read_shape(folder.with_name(plain)), method)
    table = _known()
    # A missing folder is matched by the name that a download gives it.
    matches = [name for name in table["models"] if plain == name.rpartition("/")[2]]
    if not matches:
        raise BuildError(
            f"{model}: neither a folder under {root} nor a known model ({', '.join(table['models'])});"
            " fetch the checkpoint and name its folder"
        )
    source = f"{matches[0]}, known models of {table['date']}"
    shape = _from_config(model, table["models"][matches[0]], source)
    return _as_quantised(shape, method) if method else shape


def split_quantised(name: str) -> tuple[str, str]:
    """Split ``Llama-3.1-8B-Instruct-FP8`` into ``Llama-3.1-8B-Instruct`` and ``fp8``; empty if none."""
    plain, _, last = name.rpartition("-")
    return (plain, last.lower()) if last.lower() in _QUANTISED else (name, "")


def _as_quantised(shape: Shape, method: str) -> Shape:
    """The shape of a checkpoint after quantize.py, which adds an FP8 KV cache to FP8 weights."""
    return replace(shape, stored_bytes=0, quantisation=method, kv_quantised=method == "fp8")


class _Quantised(msgspec.Struct):
    """How weights are stored, by ModelOpt (``quant_algo``) or Transformers (``quant_method``)."""

    quant_algo: str | None = None
    kv_cache_quant_algo: str | None = None
    quant_method: str | None = None


def read_shape(folder: Path) -> Shape:
    """Read the shape of a checkpoint, even without weights, or of a compiled engine.

    Raises:
        BuildError: Its configuration cannot be read or is incomplete.
    """
    file = folder / "config.json"
    config = read_json(file, dict[str, Any])
    if "pretrained_config" in config:
        return _engine_shape(folder, config, str(file))
    weights = sorted(folder.glob("*.safetensors"))
    shape = replace(
        _from_config(str(folder), config, str(file)),
        stored_bytes=sum(path.stat().st_size for path in weights),
        **_quantisation_of(folder, config),
    )
    return shape if shape.quantisation else replace(shape, counted=stored_parameters(weights))


def _engine_shape(folder: Path, engine: dict[str, Any], source: str) -> Shape:
    """Read an engine's ``config.json``, which has TensorRT-LLM's names."""
    config = _as(dict[str, Any], engine["pretrained_config"], source)
    build = _as(dict[str, Any], engine.get("build_config") or {}, source)
    quantised = _as(_Quantised, config.get("quantization") or {}, source)
    renamed = config | {
        "model_type": config.get("qwen_type") or config.get("model_type") or config.get("architecture"),
        "head_dim": config.get("head_size"),
        "max_position_embeddings": config.get("max_position_embeddings") or build.get("max_seq_len"),
    }
    return replace(
        _from_config(str(folder), renamed, source),
        stored_bytes=sum(file.stat().st_size for file in folder.glob("rank*.engine")),
        quantisation=_METHODS.get(quantised.quant_algo or "", ""),
        kv_quantised=quantised.kv_cache_quant_algo in ("FP8", "INT8"),
    )


def known_models() -> dict[str, str]:
    """Hugging Face id -> licence, of the models that can be planned without a checkpoint."""
    return {name: entry["licence"] for name, entry in _known()["models"].items()}


@cache
def _known() -> dict[str, Any]:
    return read_json(Path(__file__).with_name("known_models.json"), dict[str, Any])


def _as(kind: type[Kind], value: Any, source: str) -> Kind:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise BuildError(
            f"{source}: cannot plan with it ({error}); it must be of a decoder-only transformer"
        ) from error


def _from_config(name: str, config: dict[str, Any], source: str) -> Shape:
    own = {"name": name, "source": source, "stored_bytes": 0, "counted": 0, "quantisation": ""}
    given = {key: config[key] for key in Shape.__struct_encode_fields__ if config.get(key) is not None}
    # Transformers 5 writes `dtype` where earlier ones wrote `torch_dtype`.
    given.setdefault("dtype", config.get("torch_dtype") or "float32")
    given.setdefault("tie_word_embeddings", str(given.get("model_type")).startswith("gemma"))
    return _as(Shape, given | own | {"kv_quantised": False}, source)


def _quantisation_of(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Read the quantisation from ``hf_quant_config.json`` (ModelOpt) or ``quantization_config``."""
    file, extra = folder / "hf_quant_config.json", {}
    if file.is_file():
        stored = _as(_Quantised, read_json(file, dict[str, Any]).get("quantization") or {}, str(file))
        method, extra = stored.quant_algo, {"kv_quantised": stored.kv_cache_quant_algo == "FP8"}
    else:
        file = folder / "config.json"
        method = _as(_Quantised, config.get("quantization_config") or {}, str(file)).quant_method
    if method is None:
        return extra
    if method not in _METHODS:
        raise BuildError(f"{file}: quantised by {method!r}, which is unknown here; use {', '.join(_METHODS)}")
    return extra | {"quantisation": _METHODS[method]}

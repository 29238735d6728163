# SPDX-License-Identifier: Apache-2.0
"""Lay out the commands that compile an engine: quantise or convert, ``trtllm-build``, tokenizer, adapter.

Flags follow TensorRT-LLM 1.2.1: ``tensorrt_llm/commands/build.py`` and ``plugin.py``, and under ``examples/``
``quantization/quantize.py``, ``models/core/*/convert_checkpoint.py``, ``generate_xgrammar_tokenizer_info.py``
and ``hf_lora_convert.py``. Contract tests check them against those tables. Unverified on GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from quorum.build.checkpoint import BuildError
from quorum.build.lora import read_adapter
from quorum.build.shapes import Shape, find_shape
from quorum.runtimes.engine_names import LORA_FOLDER, LORA_TASK, TOKENIZER_INFO
from quorum.runtimes.options import EngineOptions, Lora
from quorum.runtimes.peft_adapter import read_peft_adapter

# Family -> folder of its convert_checkpoint.py. Others use the LLM API, which needs no build.
CONVERTERS = {"llama": "llama", "mistral": "llama", "qwen2": "qwen"}
# Formats that need no calibration are made by the converter, the others by quantize.py.
_WEIGHT_ONLY = {"int8_wo": "int8", "int4_wo": "int4"}
CALIBRATED = ("fp8", "int8_sq", "int4_awq", "w4a8_awq", "nvfp4")
_LORA_FILES = ("model.lora_weights.npy", "model.lora_config.npy")
_LORA_MODULES = "--lora_target_modules"


@dataclass(frozen=True, slots=True)
class Tools:
    """TensorRT-LLM's examples, interpreter and builder; the defaults are those of the Triton container.

    Quantisation is calibrated on the dataset ``calibration``: a folder, or a Hugging Face name.
    """

    examples: Path = Path("/app/examples")
    python: str = "python3"
    builder: str = "trtllm-build"
    calibration: str = "cnn_dailymail"

    def script(self, path: str, flags: Mapping[str, str]) -> tuple[str, ...]:
        """The command that runs a script of the examples."""
        return (self.python, str(self.examples / path), *_words(flags))

    def quantise(
        self, method: str, flags: Mapping[str, str], more: Mapping[str, str] | None = None
    ) -> tuple[str, ...]:
        """The command that quantises a checkpoint; FP8 weights get an FP8 KV cache."""
        flags = {**flags, "--qformat": method, "--calib_dataset": self.calibration, **(more or {})}
        if method == "fp8":
            flags["--kv_cache_dtype"] = "fp8"
        return self.script("quantization/quantize.py", flags)


def _words(flags: Mapping[str, str]) -> list[str]:
    return [word for flag in flags.items() for word in flag]


@dataclass(frozen=True, slots=True)
class Step:
    """One command, with absolute paths, the files that it must write and their bytes, roughly.

    ``reads`` are input folders other than the checkpoint.
    """

    name: str
    command: tuple[str, ...]
    makes: tuple[Path, ...]
    space: int
    reads: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class BuildSteps:
    """The build of one member's engine or quantised checkpoint.

    Attributes:
        work: Folder of intermediate files; kept, so that an interrupted build resumes.
        flags: Flags of ``trtllm-build`` -> their values, several joined by spaces.
        guided: Whether to write the tokenizer's description for guided decoding.
        lora: Name -> folder of adapters, relative to the engine.
        carries: Files to copy from the checkpoint unless a step made them.
    """

    member: str
    checkpoint: Path
    engine: Path
    work: Path
    steps: tuple[Step, ...]
    flags: Mapping[str, str] = field(default_factory=dict)
    tensor_parallel: int = 1
    guided: bool = False
    lora: Mapping[str, str] = field(default_factory=dict)
    carries: tuple[str, ...] = ()

    @property
    def fresh(self) -> Path:
        """Folder of the engine until it is complete."""
        return self.work / "engine"


def engine_build_steps(member: str, options: EngineOptions, root: Path, tools: Tools) -> BuildSteps:
    """Lay out the commands that build an engine; nothing is run and the checkpoint may be missing.

    An adapter must be there: an engine is compiled for the modules that it changes.

    Raises:
        BuildError: The model cannot be compiled, or an option or the adapter does not fit it.
    """
    where = f"member {member}"
    if not options.model:
        raise BuildError(
            f"{where}: no `model`; name the folder of the checkpoint that its engine is built from"
        )
    checkpoint = (root / options.model).resolve()
    try:
        shape = find_shape(options.model, root)
    except BuildError as error:
        raise BuildError(f"{where}: {error}") from error
    if shape.family not in CONVERTERS:
        raise BuildError(
            f"{where}: no converter is known for the family {shape.family!r} ({', '.join(CONVERTERS)});"
            " put `runtime: tensorrt_llm`, which loads the checkpoint without a build"
        )
    engine = (root / options.engine).resolve()
    work = engine.with_name(f"{engine.name}.build")
    flags = _flags(options, shape, where, root)
    steps = [
        _checkpoint_step(options, shape, tools, checkpoint, work),
        _engine_step(flags, shape, options, tools, work),
    ]
    if options.guided:
        steps.append(_tokenizer_step(options, tools, checkpoint, root, work))
    if options.lora:
        steps.append(_adapter_step(options, options.lora, shape, tools, root, work))
    return BuildSteps(
        member=member,
        checkpoint=checkpoint,
        engine=engine,
        work=work,
        steps=tuple(steps),
        flags=flags,
        tensor_parallel=options.tensor_parallel,
        guided=options.guided,
        lora={options.lora.title: f"{LORA_FOLDER}/{LORA_TASK}"} if options.lora else {},
    )


def _checkpoint_step(
    options: EngineOptions, shape: Shape, tools: Tools, checkpoint: Path, work: Path
) -> Step:
    """Quantise or convert a Hugging Face checkpoint to a TensorRT-LLM checkpoint."""
    out, quantisation, parallel = work / "checkpoint", options.quantization, options.tensor_parallel
    flags = {"--model_dir": str(checkpoint), "--output_dir": str(out), "--dtype": options.dtype}
    flags["--tp_size"] = str(parallel)
    if quantisation in CALIBRATED:
        if shape.quantisation:
            raise BuildError(
                f"{checkpoint} is quantised already ({shape.quantisation}); leave `quantization` out"
            )
        name, command = f"quantise to {quantisation}", tools.quantise(quantisation, flags)
    else:
        script = f"models/core/{CONVERTERS[shape.family]}/convert_checkpoint.py"
        name, command = "convert the checkpoint", tools.script(script, flags)
        if quantisation in _WEIGHT_ONLY:
            command += ("--use_weight_only", "--weight_only_precision", _WEIGHT_ONLY[quantisation])
    makes = (out / "config.json", *(out / f"rank{rank}.safetensors" for rank in range(parallel)))
    return Step(name, command, makes, shape.weight_bytes(options.dtype, quantisation or ""))


def _flags(options: EngineOptions, shape: Shape, where: str, root: Path) -> dict[str, str]:
    longest = options.max_seq_len or min(shape.max_positions, 4096)
    if longest > shape.max_positions:
        raise BuildError(
            f"{where}: max_seq_len {longest} is more than the {shape.max_positions} positions of the model"
        )
    answer = options.max_tokens
    if answer >= longest:
        raise BuildError(
            f"{where}: max_tokens {answer} leaves nothing of max_seq_len {longest} for the question;"
            " make the one smaller or the other larger"
        )
    flags = {
        "--gemm_plugin": "auto",
        "--max_batch_size": str(options.max_batch_size),
        "--max_input_len": str(longest - answer),
        "--max_seq_len": str(longest),
        "--max_num_tokens": str(options.max_num_tokens),
        "--max_beam_width": "1",
        "--kv_cache_type": "paged",
        # Reusing the prefix that questions share needs paged context attention.
        "--use_paged_context_fmha": "enable",
    }
    if options.lora:
        try:
            adapter = read_peft_adapter(options.lora, root)
        except ValueError as error:
            raise BuildError(f"{where}: lora: {error}") from error
        flags |= {
            "--lora_plugin": "auto",
            "--max_lora_rank": str(adapter.rank),
            # Without it trtllm-build raises, as no adapter is given to it.
            _LORA_MODULES: " ".join(adapter.modules),
        }
    return flags


def _engine_step(
    flags: dict[str, str], shape: Shape, options: EngineOptions, tools: Tools, work: Path
) -> Step:
    parallel, out = options.tensor_parallel, work / "engine"
    folders = {"--checkpoint_dir": str(work / "checkpoint"), "--output_dir": str(out)}
    modules = flags.get(_LORA_MODULES, "").split()
    single = {flag: value for flag, value in flags.items() if flag != _LORA_MODULES}
    command = (tools.builder, *_words({**folders, **single, "--workers": str(parallel)}))
    if modules:
        command += (_LORA_MODULES, *modules)
    makes = (out / "config.json", *(out / f"rank{rank}.engine" for rank in range(parallel)))
    size = shape.weight_bytes(options.dtype, options.quantization or "")
    return Step("compile the engine", command, makes, size)


def _tokenizer_step(options: EngineOptions, tools: Tools, checkpoint: Path, root: Path, work: Path) -> Step:
    out = work / "engine"
    tokenizer = (root / options.tokenizer).resolve() if options.tokenizer else checkpoint
    flags = {"--model_dir": str(tokenizer), "--output_dir": str(out)}
    command = tools.script("generate_xgrammar_tokenizer_info.py", flags)
    reads = () if tokenizer == checkpoint else (tokenizer,)
    return Step("describe the tokenizer", command, (out / TOKENIZER_INFO,), 16 << 20, reads)


def _adapter_step(
    options: EngineOptions, lora: Lora, shape: Shape, tools: Tools, root: Path, work: Path
) -> Step:
    path, out = (root / lora.path).resolve(), work / "engine" / LORA_FOLDER / str(LORA_TASK)
    if path.is_dir():
        read_adapter(path).check_base(shape, options.llm)
    dtype = shape.dtype if options.dtype == "auto" else options.dtype
    flags = {"-i": str(path), "-o": str(out), "--storage-type": dtype}
    makes = tuple(out / name for name in _LORA_FILES)
    return Step("convert the adapter", tools.script("hf_lora_convert.py", flags), makes, 1 << 30, (path,))

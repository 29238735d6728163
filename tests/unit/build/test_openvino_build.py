# SPDX-License-Identifier: Apache-2.0
"""The build is all or nothing, says what went wrong, and really makes a model that OpenVINO can run."""

import json
import logging
import os
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path

import pytest
from engine_support import CONFIG, FILES, fake_python, last_call, write_checkpoint

from quorum.build import MANIFEST, BuildError, build_openvino, inspect_checkpoint, read_manifest
from quorum.build.openvino import TESTED_FAMILIES


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path / "tiny")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "built" / "model"


def _left(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.iterdir()) if out.parent.exists() else []


def test_builds_and_writes_the_manifest(checkpoint, out, tmp_path):
    lines: list[str] = []
    python = fake_python(tmp_path / "env")
    manifest = build_openvino(checkpoint, out, weight_format="int8", python=python, on_line=lines.append)
    described = inspect_checkpoint(checkpoint)
    assert manifest == read_manifest(out)
    assert (manifest.checkpoint, manifest.checkpoint_hash) == ("tiny", described.hash)
    assert (manifest.family, manifest.parameters, manifest.weight_format) == ("llama", 10, "int8")
    assert manifest.exporter["optimum-intel"] == "1.0"
    assert {path.name for path in out.iterdir()} == {*FILES, MANIFEST}
    assert {"exporting", "warning on the other stream"} <= set(lines)
    assert _left(out) == ["model"]


def test_the_card_of_a_tuned_checkpoint_comes_along(checkpoint, out, tmp_path):
    (checkpoint / "card.json").write_text("{}")
    build_openvino(checkpoint, out, weight_format="int8", python=fake_python(tmp_path / "env"))
    assert (out / "card.json").read_text() == "{}"


def test_exporter_gets_the_format_and_no_network(checkpoint, out, tmp_path):
    python = fake_python(tmp_path / "env")
    build_openvino(checkpoint, out, weight_format="int4", python=python)
    call = last_call(python)
    arguments = call["arguments"]
    assert arguments[arguments.index("--weight-format") + 1] == "int4"
    assert arguments[arguments.index("--model") + 1] == "./tiny"
    assert call["folder"] == str(checkpoint.parent)
    assert "--trust-remote-code" not in arguments
    assert call["environment"]["HF_HUB_OFFLINE"] == "1"


def test_relative_paths_are_meant_from_here(checkpoint, out, tmp_path, monkeypatch):
    fake_python(tmp_path / "env")
    monkeypatch.chdir(tmp_path)
    build_openvino(Path("tiny"), Path("built/model"), weight_format="int8", python=Path("env/python"))
    assert read_manifest(out).checkpoint == "tiny"


def test_failed_export_leaves_nothing_and_quotes_the_exporter(checkpoint, out, tmp_path):
    python = fake_python(tmp_path / "env", code=3)
    with pytest.raises(BuildError, match=r"exit code 3(.|\n)*exporting"):
        build_openvino(checkpoint, out, weight_format="int8", python=python)
    assert _left(out) == []


def test_incomplete_export_is_a_failure(checkpoint, out, tmp_path):
    python = fake_python(tmp_path / "env", files=FILES[:2])
    with pytest.raises(BuildError, match=r"openvino_tokenizer\.xml"):
        build_openvino(checkpoint, out, weight_format="int8", python=python)
    assert _left(out) == []


def test_interrupted_build_leaves_nothing_and_no_process(checkpoint, out, tmp_path):
    def interrupt(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_openvino(
            checkpoint, out, weight_format="int8", python=fake_python(tmp_path / "env"), on_line=interrupt
        )
    assert _left(out) == []


def test_existing_model_is_kept_unless_forced(checkpoint, out, tmp_path):
    out.mkdir(parents=True)
    (out / "mine.txt").write_text("precious")
    python = fake_python(tmp_path / "env")
    with pytest.raises(BuildError, match="exists already"):
        build_openvino(checkpoint, out, weight_format="int8", python=python)
    assert (out / "mine.txt").read_text() == "precious"
    build_openvino(checkpoint, out, weight_format="int8", python=python, force=True)
    assert {path.name for path in out.iterdir()} == {*FILES, MANIFEST}
    assert _left(out) == ["model"]


def test_failed_forced_build_keeps_the_old_model(checkpoint, out, tmp_path):
    out.mkdir(parents=True)
    (out / "mine.txt").write_text("precious")
    with pytest.raises(BuildError, match="exit code 1"):
        build_openvino(
            checkpoint, out, weight_format="int8", python=fake_python(tmp_path / "env", code=1), force=True
        )
    assert (out / "mine.txt").read_text() == "precious"
    assert _left(out) == ["model"]


def test_old_model_comes_back_when_the_new_one_cannot_move_in(checkpoint, out, tmp_path, monkeypatch):
    out.mkdir(parents=True)
    (out / "mine.txt").write_text("precious")
    rename = Path.rename

    def refuse(self, target):
        if self.name == "new":
            raise PermissionError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError):
        build_openvino(
            checkpoint, out, weight_format="int8", python=fake_python(tmp_path / "env"), force=True
        )
    assert (out / "mine.txt").read_text() == "precious"


def test_build_environment_is_checked_before_anything_runs(checkpoint, out, tmp_path):
    with pytest.raises(BuildError, match=r"does not run.*make build-env"):
        build_openvino(checkpoint, out, weight_format="int8", python=tmp_path / "none" / "python")
    bare = fake_python(tmp_path / "bare", version=None)
    with pytest.raises(BuildError, match=r"optimum-intel.*not installed.*make build-env"):
        build_openvino(checkpoint, out, weight_format="int8", python=bare)
    assert _left(out) == []
    assert not (bare.parent / "calls.json").exists()


def test_disk_too_small(checkpoint, out, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    with pytest.raises(BuildError, match="GB free"):
        build_openvino(checkpoint, out, weight_format="int8", python=fake_python(tmp_path / "env"))


def test_unknown_weight_format(checkpoint, out, tmp_path):
    with pytest.raises(BuildError, match=r"int9.*fp32, fp16, int8, int4"):
        build_openvino(checkpoint, out, weight_format="int9", python=fake_python(tmp_path / "env"))


def test_untested_family_is_built_with_a_warning(checkpoint, out, tmp_path, caplog):
    (checkpoint / "config.json").write_text(json.dumps({**CONFIG, "model_type": "olmo"}))
    with caplog.at_level(logging.WARNING):
        build_openvino(checkpoint, out, weight_format="int8", python=fake_python(tmp_path / "env"))
    assert "untested family 'olmo'" in caplog.text


@pytest.mark.parametrize("content", [None, "{", "{}", '{"schema_version": 99}', '{"schema_version": 1}'])
def test_unreadable_manifest(tmp_path, content):
    if content is not None:
        (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(BuildError, match="quorum build"):
        read_manifest(tmp_path)


_TINY = """
import sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.models.auto import CONFIG_MAPPING
family, out = sys.argv[1:]
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
vocabulary = {token: number for number, token in enumerate(["<|end|>", *alphabet])}
tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.add_special_tokens(["<|end|>"])
config = CONFIG_MAPPING[family](
    vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=256,
    tie_word_embeddings=True, bos_token_id=None, eos_token_id=0, pad_token_id=0,
)
AutoModelForCausalLM.from_config(config).save_pretrained(out)
PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>").save_pretrained(out)
"""


def _build_python() -> Path:
    named = os.environ.get("QUORUM_BUILD_PYTHON")
    python = Path(named) if named else Path(__file__).parents[3] / ".venv-build" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no build environment at {python}: run `make build-env` or set QUORUM_BUILD_PYTHON")
    return python


@pytest.mark.build
@pytest.mark.timeout(300)
@pytest.mark.parametrize("family", TESTED_FAMILIES)
def test_a_real_checkpoint_builds_and_generates(tmp_path, family):
    genai = pytest.importorskip("openvino_genai", reason="install quorum[openvino]")
    python, checkpoint, out = _build_python(), tmp_path / "checkpoint", tmp_path / "built"
    subprocess.run([python, "-c", _TINY, family, checkpoint], check=True, capture_output=True)
    manifest = build_openvino(checkpoint, out, weight_format="int8", python=python)
    assert manifest.family == family
    assert manifest.parameters > 257 * 32
    for file in out.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes(), f"{file.name} names the folder it was made in"
    pipeline = genai.ContinuousBatchingPipeline(str(out), genai.SchedulerConfig(), "CPU")
    config = genai.GenerationConfig(
        max_new_tokens=8,
        structured_output_config=genai.StructuredOutputConfig(regex="(yes|no)"),
        apply_chat_template=False,
    )
    config.eos_token_id = pipeline.get_tokenizer().get_eos_token_id()
    answer = pipeline.generate(["Is it?"], [config])[0].m_generation_ids[0]
    assert answer in ("yes", "no")

# SPDX-License-Identifier: Apache-2.0
"""What is no usable checkpoint is refused before anything runs, with a message that says what to do."""

import json

import pytest
from engine_support import write_checkpoint

from quorum.build import BuildError, inspect_checkpoint


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path / "tiny")


def test_describes_a_checkpoint_without_loading_it(checkpoint):
    found = inspect_checkpoint(checkpoint)
    assert (found.family, found.parameters) == ("llama", 2 * 3 + 4)
    assert found.weight_bytes == (checkpoint / "model.safetensors").stat().st_size
    assert found.hash.startswith("sha256:")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_hash_changes_with_every_part(checkpoint, name):
    before = inspect_checkpoint(checkpoint).hash
    file = checkpoint / name
    content = file.read_bytes()
    file.write_bytes(content + b"\n" if name.endswith("json") else content[:-1] + b"\1")
    assert inspect_checkpoint(checkpoint).hash != before


def test_hash_does_not_depend_on_the_folder(checkpoint, tmp_path):
    assert inspect_checkpoint(write_checkpoint(tmp_path / "copy")).hash == inspect_checkpoint(checkpoint).hash


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "no \\*.safetensors"),
        ("tokenizer.json", "no tokenizer"),
    ],
)
def test_missing_files_are_named(checkpoint, name, says):
    (checkpoint / name).unlink()
    with pytest.raises(BuildError, match=says) as caught:
        inspect_checkpoint(checkpoint)
    assert str(checkpoint) in str(caught.value)


def test_no_folder(tmp_path):
    with pytest.raises(BuildError, match="no such folder"):
        inspect_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architectures": ["BertForMaskedLM"]}, "not a causal language model .*BertForMaskedLM"),
        ({"architectures": None}, "not a causal language model .*none"),
        ({"auto_map": {"AutoModelForCausalLM": "code.Model"}}, "brings code of its own"),
        ({"model_type": ""}, "no model_type"),
    ],
)
def test_other_configurations_are_refused(checkpoint, change, says):
    file = checkpoint / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(BuildError, match=says):
        inspect_checkpoint(checkpoint)


@pytest.mark.parametrize("content", ["{", "[]", "\udc80"])
def test_broken_configuration(checkpoint, content):
    (checkpoint / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(BuildError, match=r"config\.json"):
        inspect_checkpoint(checkpoint)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\xff" * 16, b"\x02\0\0\0\0\0\0\0[]"])
def test_broken_weights(checkpoint, content):
    (checkpoint / "model.safetensors").write_bytes(content)
    with pytest.raises(BuildError, match="not a safetensors file"):
        inspect_checkpoint(checkpoint)


def test_weights_that_are_cut_off_are_refused(checkpoint):
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BuildError, match="not a safetensors file"):
        inspect_checkpoint(checkpoint)

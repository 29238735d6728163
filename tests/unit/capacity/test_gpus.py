# SPDX-License-Identifier: Apache-2.0
"""GPUs by name, amounts of memory, and what nvidia-smi prints."""

import pytest

from quorum.hardware import GIB, KNOWN, MIB, GpuError, known_gpu, parse_memory, parse_nvidia_smi


@pytest.mark.parametrize(
    ("text", "size"),
    [("80GiB", 80 * GIB), ("80 GB", 80 * 10**9), ("81559 MiB", 81_559 * MIB), ("0.5gib", GIB // 2)],
)
def test_amounts_of_memory(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["80", "GiB", "80 TiB", "-1GiB", ""])
def test_no_amounts_of_memory(text):
    with pytest.raises(GpuError, match="80GiB"):
        parse_memory(text)


def test_unknown_gpu_lists_the_known_ones():
    with pytest.raises(GpuError, match="h100-80"):
        known_gpu("rtx")


# In the form that drivers 550 to 610 print, from published outputs; brackets hold what cannot be told.
RECORDED = """\
0, NVIDIA H100 80GB HBM3, 9.0, 81559 MiB, 4 MiB, 590.48.01
1, NVIDIA A100-SXM4-40GB, 8.0, 40960 MiB, 39000 MiB, 550.90.12
2, NVIDIA L40S, 8.9, 46068 MiB, [N/A], 575.57.08
3, NVIDIA B200, 10.0, 183359 MiB, 0 MiB, 590.48.01

4, NVIDIA RTX PRO 6000 Blackwell Server Edition, 12.0, 97887 MiB, [Insufficient Permissions], 610.43.02
"""


def test_nvidia_smi_is_read():
    gpus = parse_nvidia_smi(RECORDED)
    assert [gpu.architecture for gpu in gpus] == ["sm_90", "sm_80", "sm_89", "sm_100", "sm_120"]
    assert [gpu.index for gpu in gpus] == [0, 1, 2, 3, 4]
    assert gpus[1].free == (40_960 - 39_000) * MIB
    assert gpus[2].used == 0
    assert gpus[0].memory == KNOWN["h100-80"].memory


@pytest.mark.parametrize(
    "text",
    [
        "No devices were found",
        "0, NVIDIA H100, 9.0, 81559, 4 MiB, 590",
        "0, NVIDIA H100, [N/A], 81559 MiB, 4 MiB, 590",
    ],
)
def test_what_nvidia_smi_should_not_say(text):
    with pytest.raises(GpuError, match="does not match"):
        parse_nvidia_smi(text)

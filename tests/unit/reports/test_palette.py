# SPDX-License-Identifier: Apache-2.0
"""The palette: contrast on page and panel, and series that colour-blind readers can tell apart."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from quorum.reports.palette import DARK, LIGHT, MOST_SERIES, SERIES_DARK, SERIES_LIGHT, variables

Floats = npt.NDArray[np.float64]
THEMES = {"light": (LIGHT, SERIES_LIGHT), "dark": (DARK, SERIES_DARK)}
# Machado, Oliveira & Fernandes, IEEE TVCG 15(6), 2009, severity 1.
SIGHT = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]
    ),
}
# Ottosson's OKLab, 2020: a distance of 2 (of 100) is about what is just noticed.
TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def linear(colour: str) -> Floats:
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2: from 1 to 21."""
    low, high = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(colour: str, sight: Floats) -> Floats:
    return 100 * TO_LAB @ np.cbrt(TO_LMS @ np.clip(sight @ linear(colour), 0, 1))


@pytest.mark.parametrize("theme", THEMES)
def test_text_and_series_stand_out_from_page_and_panel(theme: str) -> None:
    roles, series = THEMES[theme]
    for ground in (roles["page"], roles["panel"]):
        for name in ("ink", "soft", "accent", "good", "bad"):
            assert contrast(roles[name], ground) >= 4.5, (name, ground)
        for colour in series:
            assert contrast(colour, ground) >= 3.0, (colour, ground)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("theme", THEMES)
def test_series_differ_for_every_reader(theme: str, sight: str) -> None:
    for one, other in itertools.combinations(THEMES[theme][1], 2):
        distance = float(np.linalg.norm(lab(one, SIGHT[sight]) - lab(other, SIGHT[sight])))
        assert distance >= 8.0, (one, other)


def test_both_themes_set_the_same_variables() -> None:
    assert set(LIGHT) == set(DARK)
    assert len(SERIES_LIGHT) == len(SERIES_DARK) == MOST_SERIES
    light, dark = variables().split("@media (prefers-color-scheme:dark)")
    for name in (*LIGHT, *(f"series-{number}" for number in range(1, MOST_SERIES + 1))):
        assert f"--{name}:" in light
        assert f"--{name}:" in dark

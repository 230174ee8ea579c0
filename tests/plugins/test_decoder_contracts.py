"""To register is to be tested: every registered decoder passes the decoder contract."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
import pytest

from deploykit import installed
from deploykit.signature import Arrays
from deploykit.testing import DecoderContract


def _map_with(*quads: list[list[int]], side: int = 96) -> Any:
    page = np.full((1, side, side), 0.05, np.float32)
    for quad in quads:
        cv2.fillPoly(page[0], [np.array(quad, np.int32)], 0.9)
    return page


class TestTextBoxes(DecoderContract):
    """Boxes of text."""

    name = "text-boxes"

    def examples(self) -> Iterable[Arrays]:
        """Two lines on one map, a turned one on the next, none on the last."""
        level = [[8, 10], [80, 10], [80, 24], [8, 24]], [[20, 50], [70, 50], [70, 66], [20, 66]]
        turned = [[10, 30], [70, 50], [65, 65], [5, 45]]
        yield {"probability": np.stack([_map_with(*level), _map_with(turned), _map_with()])}


class TestTextPolygons(TestTextBoxes):
    """Polygons around text."""

    name = "text-polygons"


class TestMutualMatches(DecoderContract):
    """Pairs that are each other's best."""

    name = "mutual-matches"

    def examples(self) -> Iterable[Arrays]:
        """Assignments with a few clear matches and some noise."""
        random = np.random.default_rng(0)
        for rows, columns in ((5, 7), (4, 3)):
            plan = random.uniform(0, 0.3, (3, rows, columns))
            plan[:, np.arange(3), np.arange(3)] = 0.9
            yield {"assignment": plan.astype(np.float32)}


@pytest.mark.parametrize("name", ["mutual-matches", "text-boxes", "text-polygons"])
def test_the_shipped_decoders_are_registered(name: str) -> None:
    assert name in installed().decoders


def test_every_registered_decoder_has_its_contract_here() -> None:
    tested = {vars(item).get("name") for item in globals().values() if isinstance(item, type)}
    assert set(installed().decoders) <= tested

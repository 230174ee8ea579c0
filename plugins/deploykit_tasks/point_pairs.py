"""Keypoints of photographs and of warped copies: find which belong together."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deploykit import Dim, Samples, Signature, Task, TensorSpec, make_decoder
from deploykit.errors import UnknownNameError
from deploykit.signature import Arrays
from deploykit.task import Split, Targets
from deploykit_tasks.point_pairs_network import DualSoftmax
from deploykit_tasks.point_pairs_photographs import grey_photograph, photographs_of
from deploykit_tasks.point_pairs_views import DESCRIPTOR_SIZE, IGNORED, UNMATCHED, View, draw_pair

SLOTS_A: Final = 32
SLOTS_B: Final = 40
_COUNTS: Final[dict[Split, int]] = {"train": 1600, "calibration": 64, "test": 320}
_SEEDS: Final[dict[Split, int]] = {"train": 1, "calibration": 2, "test": 3}
_SMALLEST: Final = 1e-6


@dataclass(frozen=True, slots=True)
class MatchScore:
    """How good matches are; pairs of a point whose truth is not clear count neither for nor against.

    Attributes:
        right: matches found that are true.
        found: matches found.
        true: matches there are.
    """

    right: int
    found: int
    true: int

    @property
    def precision(self) -> float:
        """Share of the found matches that are true; 1 if none was found."""
        return self.right / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """Share of the true matches that were found; 1 if there are none."""
        return self.right / self.true if self.true else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.right / (self.found + self.true) if self.found + self.true else 1.0


class PointPairs(Task):
    """Match up to 32 corners of one view with up to 40 of another.

    Views of 160 x 160 pixels are cut out of 14 photographs that ship with scikit-image; the second is turned by up to
    25 degrees, scaled, moved and tilted, and both are lit, blurred and made noisy on their own. Corners (Shi-Tomasi,
    OpenCV) are looked for in each view on its own and described by 64 bits of BRIEF (scikit-image), so about half of
    them have a partner. Slots without a corner are marked by a mask. 1 600 pairs from nine photographs are for
    training, 64 more for calibration, 320 from the other five for testing.

    Targets: ``partner_a`` int64 [n, 32], the slot of the same place in b, -1 where there is none, -2 where it is not
    clear or there is no corner; ``partner_b`` int64 [n, 40], the same for b; ``photograph`` int64 [n], which of the
    split's photographs.
    """

    metric_name = "F1 of matches"
    epochs = 12
    batch_size = 32
    max_loss = 0.03

    @property
    def signature(self) -> Signature:
        """Points, descriptors and masks of two views in, one assignment out; numbers of points are free."""
        points = Dim(min=1, max=256)
        return Signature(
            inputs=(*_view_inputs("a"), *_view_inputs("b")),
            outputs=(
                TensorSpec(
                    name="assignment",
                    shape=("batch", "points_a", "points_b"),
                    minimum=0.0,
                    maximum=1.0,
                    description="how sure point of a and point of b are the same; the mutual best above 0.2 are",
                ),
            ),
            dims={"batch": Dim(min=1, max=1024), "points_a": points, "points_b": points},
        )

    def samples(self, split: Split) -> Samples:
        """Return the pairs of views of a split."""
        inputs, targets = _pairs(split, _COUNTS[split])
        return Samples(inputs=dict(inputs), targets=dict(targets))

    def example(self, count: int = 2) -> tuple[Tensor, ...]:
        """Return the first training pairs without drawing the others."""
        inputs, _ = _pairs("train", count)
        return tuple(torch.from_numpy(inputs[spec.name].copy()) for spec in self.signature.inputs)

    def network(self, name: str = "") -> nn.Module:
        """Return ``dual-softmax`` (default): descriptors compared after one hidden layer."""
        if name in {"", "dual-softmax"}:
            return DualSoftmax(DESCRIPTOR_SIZE)
        raise UnknownNameError(f"task 'point-pairs' has no network {name!r}; it has 'dual-softmax'")

    def loss(self, outputs: Mapping[str, Tensor], targets: Targets) -> Tensor:
        """Return minus the mean logarithm of what true pairs get, and of what is left at points without partner."""
        assignment = outputs["assignment"]
        a, b = targets["partner_a"], targets["partner_b"]
        of_pairs = assignment.gather(2, a.clamp(min=0)[:, :, None])[:, :, 0][a >= 0]
        left = [(1 - assignment.sum(2))[a == UNMATCHED], (1 - assignment.sum(1))[b == UNMATCHED]]
        return -torch.cat([of_pairs, *left]).clamp(min=_SMALLEST).log().mean()

    def metric(self, outputs: Arrays, samples: Samples) -> float:
        """Return the F1 of the decoded matches over all pairs of views together."""
        return self.score(outputs, samples).f1

    def score(self, outputs: Arrays, samples: Samples, settings: Mapping[str, Any] | None = None) -> MatchScore:
        """Decode assignments with ``mutual-matches`` and count matches.

        Args:
            settings: the decoder's.
        """
        found = make_decoder("mutual-matches", dict(settings or {})).decode(outputs)
        return count_matches(found["sample"], found["index_a"], found["index_b"], samples.targets)


def count_matches(
    sample: NDArray[np.int64], index_a: NDArray[np.int64], index_b: NDArray[np.int64], targets: Arrays
) -> MatchScore:
    """Compare matches, one a row, with the truth ``partner_a`` and ``partner_b``."""
    truth_a, truth_b = targets["partner_a"][sample, index_a], targets["partner_b"][sample, index_b]
    clear = (truth_a != IGNORED) & (truth_b != IGNORED)
    right = truth_a == index_b
    return MatchScore(int(right.sum()), int(clear.sum()), int((targets["partner_a"] >= 0).sum()))


def _view_inputs(view: str) -> tuple[TensorSpec, ...]:
    count = f"points_{view}"
    return (
        TensorSpec(
            name=f"points_{view}", shape=("batch", count, 2), minimum=-1.0, maximum=1.0,
            description="x and y from the picture's middle, over 0.7 of its longer side; 0 in empty slots",
        ),
        TensorSpec(
            name=f"descriptors_{view}", shape=("batch", count, DESCRIPTOR_SIZE), minimum=-1.0, maximum=1.0,
            description="bits as -1 and +1; 0 in empty slots",
        ),
        TensorSpec(name=f"valid_{view}", dtype="bool", shape=("batch", count), description="false: an empty slot"),
    )  # fmt: skip


@functools.cache
def _pairs(split: Split, count: int) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    names = photographs_of(split)
    inputs: dict[str, NDArray[Any]] = {}
    for view, slots in (("a", SLOTS_A), ("b", SLOTS_B)):
        inputs[f"points_{view}"] = np.zeros((count, slots, 2), np.float32)
        inputs[f"descriptors_{view}"] = np.zeros((count, slots, DESCRIPTOR_SIZE), np.float32)
        inputs[f"valid_{view}"] = np.zeros((count, slots), np.bool_)
    targets: dict[str, NDArray[Any]] = {
        "partner_a": np.full((count, SLOTS_A), IGNORED, np.int64),
        "partner_b": np.full((count, SLOTS_B), IGNORED, np.int64),
        "photograph": np.arange(count, dtype=np.int64) % len(names),
    }
    for index in range(count):
        photograph = grey_photograph(names[index % len(names)])
        pair = draw_pair(np.random.default_rng([_SEEDS[split], index]), photograph, SLOTS_A, SLOTS_B)
        _place(inputs, index, "a", pair.a)
        _place(inputs, index, "b", pair.b)
        targets["partner_a"][index, : len(pair.partner_a)] = pair.partner_a
        targets["partner_b"][index, : len(pair.partner_b)] = pair.partner_b
    for array in (*inputs.values(), *targets.values()):
        array.setflags(write=False)  # the cache hands the same arrays to everybody
    return inputs, targets


def _place(inputs: dict[str, NDArray[Any]], index: int, name: str, view: View) -> None:
    count = len(view.points)
    inputs[f"points_{name}"][index, :count] = view.normalised
    inputs[f"descriptors_{name}"][index, :count] = view.descriptors
    inputs[f"valid_{name}"][index, :count] = True

"""Italian wines: the UCI data set that scikit-learn ships (178 wines, 13 measurements, 3 growers)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.datasets import load_wine
from torch import Tensor, nn
from torch.nn import functional as F

from deploykit import Samples, Signature, Task, TensorSpec
from deploykit.signature import Arrays
from deploykit.task import Split


class Wine(Task):
    """Tell the grower from the measurements, each scaled to mean 0 and deviation 1 over the training wines.

    Every third wine is for testing (60), the rest for training (118); the first 32 of these also calibrate.
    """

    epochs = 60
    batch_size = 32

    @property
    def signature(self) -> Signature:
        """Thirteen measurements in, three logits out."""
        return Signature(
            inputs=(TensorSpec(name="measurements", shape=("batch", 13), description="standard deviations"),),
            outputs=(TensorSpec(name="logits", shape=("batch", 3)),),
        )

    def samples(self, split: Split) -> Samples:
        """Return measurements and growers of a split; neighbours in the file are of one grower, hence every third."""
        wines = load_wine()
        testing = np.arange(len(wines.target)) % 3 == 0
        training = wines.data[~testing]
        scaled = ((wines.data - training.mean(axis=0)) / training.std(axis=0)).astype(np.float32)
        chosen = testing if split == "test" else ~testing
        index = np.random.default_rng(0).permutation(np.flatnonzero(chosen))
        index = index[:32] if split == "calibration" else index
        return Samples({"measurements": scaled[index]}, {"grower": wines.target[index].astype(np.int64)})

    def network(self, name: str = "") -> nn.Module:
        """Return one hidden layer of 32."""
        return nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Return the mean cross-entropy."""
        return F.cross_entropy(outputs["logits"], targets["grower"])

    def metric(self, outputs: Arrays, samples: Samples) -> float:
        """Return the share of wines whose largest logit is at their grower."""
        return float((outputs["logits"].argmax(axis=1) == samples.targets["grower"]).mean())

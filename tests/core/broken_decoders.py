"""An honest decoder and, for each promise of the decoder contract, one that breaks it."""

from __future__ import annotations

import os
import sys
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from deploykit import Decoder, DecoderConfig, TensorSpec
from deploykit.errors import SignatureError
from deploykit.signature import Arrays


class PeaksConfig(DecoderConfig):
    """Settings of :class:`Peaks`."""

    threshold: float = Field(0.5, ge=0, lt=10, description="values above this are listed")


class Peaks(Decoder):
    """List what lies above a threshold in ``y`` float32 [batch, n]."""

    Config: ClassVar[Any] = PeaksConfig
    outputs: ClassVar[tuple[TensorSpec, ...]] = (
        TensorSpec(name="place", dtype="int64", shape=("found",)),
        TensorSpec(name="value", shape=("found",), minimum=0),
        TensorSpec(name="sample", dtype="int64", shape=("found",)),
    )

    def decode(self, outputs: Arrays) -> Arrays:
        if "y" not in outputs:
            raise SignatureError(f"output 'y' is missing; got {sorted(outputs)}")
        y = outputs["y"]
        sample, place = np.nonzero(np.isfinite(y) & (y > self.config.threshold))
        return {"place": place, "value": y[sample, place], "sample": sample}


class Tall(Peaks):
    """Imports torch where it decodes."""

    def decode(self, outputs: Arrays) -> Arrays:
        import torch

        return super().decode({name: torch.from_numpy(array).numpy() for name, array in outputs.items()})


class Undeclared(Peaks):
    def decode(self, outputs: Arrays) -> Arrays:
        return {**super().decode(outputs), "score": np.zeros(1)}


class Halved(Peaks):
    def decode(self, outputs: Arrays) -> Arrays:
        found = super().decode(outputs)
        return {**found, "value": found["value"].astype(np.float16)}


class Uneven(Peaks):
    def decode(self, outputs: Arrays) -> Arrays:
        found = super().decode(outputs)
        return {**found, "value": found["value"][1:]}


class Negative(Peaks):
    def decode(self, outputs: Arrays) -> Arrays:
        found = super().decode(outputs)
        return {**found, "value": -found["value"]}


class Backwards(Peaks):
    def decode(self, outputs: Arrays) -> Arrays:
        return {name: array[::-1].copy() for name, array in super().decode(outputs).items()}


class Blind(Peaks):
    def decode(self, outputs: Arrays) -> Arrays:
        return super().decode({name: np.zeros_like(array) for name, array in outputs.items()})


class Sorting(Peaks):
    """Sorts the model's outputs in place."""

    def decode(self, outputs: Arrays) -> Arrays:
        outputs["y"].sort(axis=1)
        return super().decode(outputs)


class Viewing(Peaks):
    outputs = (TensorSpec(name="first", shape=("batch",)),)

    def decode(self, outputs: Arrays) -> Arrays:
        return {"first": outputs["y"][:, 0]}


class Tiring(Peaks):
    """Raises its threshold with every call."""

    calls = 0

    def decode(self, outputs: Arrays) -> Arrays:
        self.calls += 1
        found = super().decode(outputs)
        return {**found, "value": found["value"] + np.float32(self.calls)}


class Relative(Peaks):
    """Lists what is above the mean of the batch."""

    def decode(self, outputs: Arrays) -> Arrays:
        return super().decode({"y": outputs["y"] - outputs["y"].mean() if outputs["y"].size else outputs["y"]})


class Labelling(Peaks):
    """Gives every sample one number, the place where the batch is largest as a whole."""

    outputs = (TensorSpec(name="label", dtype="int64", shape=("batch",)),)

    def decode(self, outputs: Arrays) -> Arrays:
        place = super().decode(outputs)["place"]
        return {"label": np.full(len(outputs["y"]), place.sum())}


class Counted(Peaks):
    """Lists samples that have peaks, and numbers them; each peak says the number of its sample, as rows do."""

    outputs = (
        TensorSpec(name="number", dtype="int64", shape=("listed",)),
        TensorSpec(name="owner", dtype="uint8", shape=("peaks",)),
    )

    def decode(self, outputs: Arrays) -> Arrays:
        listed, owner = np.unique(super().decode(outputs)["sample"], return_inverse=True)
        return {"number": np.arange(len(listed)), "owner": owner.astype(np.uint8)}


class Miscounted(Counted):
    """Shifts each sample's numbers by one number, which from the third sample on is nobody's count of rows."""

    def decode(self, outputs: Arrays) -> Arrays:
        found = super().decode(outputs)
        owner = found["owner"]
        return {**found, "owner": np.where(owner > 1, owner + 100, owner).astype(np.uint8)}


class Lonely(Peaks):
    """Needs what only a test has imported."""

    def decode(self, outputs: Arrays) -> Arrays:
        if "pytest" not in sys.modules:
            raise LookupError("nobody\nis here")
        return super().decode(outputs)


class Vanishing(Peaks):
    """Ends every process but a test's."""

    def decode(self, outputs: Arrays) -> Arrays:
        if "pytest" not in sys.modules:
            os._exit(3)
        return super().decode(outputs)


class Sure(Peaks):
    """Is sure that there is something in every sample."""

    def decode(self, outputs: Arrays) -> Arrays:
        found = super().decode(outputs)
        found["value"].max()
        return found


class Trusting(Peaks):
    """Takes what is no number for a peak."""

    def decode(self, outputs: Arrays) -> Arrays:
        sample, place = np.nonzero(~(outputs["y"] <= self.config.threshold))
        return {"place": place, "value": outputs["y"][sample, place], "sample": sample}


class Careless(Peaks):
    def decode(self, outputs: Arrays) -> Arrays:
        y = outputs["y"]
        return super().decode({"y": y})


class Silent(Peaks):
    def decode(self, outputs: Arrays) -> Arrays:
        return super().decode({"y": np.zeros((1, 1), np.float32), **outputs})


class OpenConfig(DecoderConfig):
    """Takes any number."""

    threshold: float = Field(0.5, description="values above this are listed")


class Unbounded(Peaks):
    """Takes the root of a setting that may be below zero."""

    Config: ClassVar[Any] = OpenConfig

    def decode(self, outputs: Arrays) -> Arrays:
        found = super().decode(outputs)
        return {**found, "value": found["value"] * np.float32(np.sqrt(self.config.threshold))}


class ShyConfig(DecoderConfig):
    """Says nothing of its setting."""

    threshold: float = 0.5


class Undescribed(Peaks):
    Config: ClassVar[Any] = ShyConfig


class OddConfig(DecoderConfig):
    """Its default is out of its range."""

    threshold: float = Field(-1.0, ge=0, description="values above this are listed")


class Illegal(Peaks):
    Config: ClassVar[Any] = OddConfig


class ForeignConfig(BaseModel):
    """Takes settings that it does not have."""

    model_config = ConfigDict(extra="ignore")
    threshold: float = 0.5


class Foreign(Peaks):
    Config: ClassVar[Any] = ForeignConfig


DECODERS = [item for item in list(globals().values()) if isinstance(item, type) and issubclass(item, Peaks)]

"""From an assignment to a list of matches: mutual best pairs above a threshold. numpy only."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deploykit import Decoder, DecoderConfig, TensorSpec
from deploykit.errors import SignatureError
from deploykit.signature import Arrays


class MutualMatchesConfig(DecoderConfig):
    """Settings of :class:`MutualMatches`."""

    threshold: float = Field(0.2, ge=0, lt=1, description="a match must be above this")
    output: str = Field("assignment", min_length=1, description="name of the model's output that holds the assignment")


class MutualMatches(Decoder):
    """List the pairs that are each other's best, and above the threshold, sample by sample and by index in a.

    No point is in two matches. Of equal values the one of the lowest index is the best, in rows and in columns. A
    matching, one that holds nothing but the values of its matches, comes out as it is, but for those that are not
    above the threshold.

    Source: Sarlin et al. 2020, section 5: threshold 0.2.
    """

    Config = MutualMatchesConfig
    outputs: ClassVar[tuple[TensorSpec, ...]] = (
        TensorSpec(name="index_a", dtype="int64", shape=("found",), description="slot of the point in a"),
        TensorSpec(name="index_b", dtype="int64", shape=("found",), description="slot of its partner in b"),
        TensorSpec(name="confidence", dtype="float32", shape=("found",), description="the assignment there, 0 to 1"),
        TensorSpec(name="sample", dtype="int64", shape=("found",), description="which pair of the batch"),
    )

    def decode(self, outputs: Arrays) -> Arrays:
        """Find the matches in each ``assignment`` float32[batch, points_a, points_b].

        Raises:
            SignatureError: the output is missing, has another shape, or holds NaN or infinity.
        """
        plan = self._plan(outputs)
        if not plan.size:
            nothing = np.zeros(0, np.int64)
            return {"index_a": nothing, "index_b": nothing, "confidence": np.zeros(0, np.float32), "sample": nothing}
        best_b, best_a = plan.argmax(2), plan.argmax(1)
        mutual = np.take_along_axis(best_a, best_b, 1) == np.arange(plan.shape[1])
        # The same float32 as in the graph: 0.2 in float64 is another number.
        sample, index_a = np.nonzero(mutual & (plan.max(2) > np.float32(self.config.threshold)))
        index_b = best_b[sample, index_a]
        return {
            "index_a": index_a.astype(np.int64),
            "index_b": index_b.astype(np.int64),
            "confidence": plan[sample, index_a, index_b],
            "sample": sample.astype(np.int64),
        }

    def _plan(self, outputs: Arrays) -> NDArray[Any]:
        name = self.config.output
        if name not in outputs:
            raise SignatureError(
                f"mutual-matches: output {name!r} is missing; got {sorted(outputs)}; the setting 'output' names it"
            )
        plan = outputs[name]
        if plan.ndim != 3:
            raise SignatureError(
                f"mutual-matches: {name!r} must be [batch, points_a, points_b], got {list(plan.shape)}"
            )
        if not np.isfinite(plan).all():
            raise SignatureError(f"mutual-matches: {name!r} holds NaN or infinity; wanted finite numbers from 0 to 1")
        return np.asarray(plan, np.float32)

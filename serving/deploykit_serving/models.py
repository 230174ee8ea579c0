"""A model in memory: its signature, its variants with open sessions, and its decoder."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson
from numpy.typing import NDArray

from deploykit.decoder import Decoder
from deploykit.manifest import Manifest, VariantEntry
from deploykit.signature import BATCH, Arrays, Signature
from deploykit_serving.input_gate import InputGate
from deploykit_serving.protocol.faults import RequestFault, shown
from deploykit_serving.protocol.metadata import model_metadata
from deploykit_serving.runtimes import Session

if TYPE_CHECKING:
    from deploykit_serving.choice.measured import MeasuredVariants

VERSION: Final = "1"
INLINE_SECONDS: Final = 1e-3
"""A model whose estimated run is shorter runs on the event loop: handing it to a thread costs more than that saves."""


@dataclass(slots=True)
class Variant:
    """One runnable file of a bundle with its session.

    Attributes:
        name: what requests call it; by default its name in the bundle.
        seconds: median of the warm-up's runs on one sample; infinite before the warm-up.
        elements: numbers in that sample's inputs.
        header: tells with an answer that this variant gave it.
    """

    entry: VariantEntry
    session: Session
    name: str = ""
    seconds: float = float("inf")
    elements: int = 1
    header: tuple[bytes, bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.name or self.entry.name
        self.header = (b"deploykit-variant", self.name.encode())

    def is_quick(self, arrays: Arrays) -> bool:
        """Whether a run on these inputs should take less than a millisecond, if time grows with their size."""
        elements = sum(array.size for array in arrays.values())
        return self.seconds * max(elements, self.elements) < INLINE_SECONDS * self.elements


@dataclass
class LoadedModel:
    """A bundle, or a deployment of several bundles' variants, that answers requests.

    Attributes:
        manifest: of the bundle; of a deployment the first variant's, with which the others agree in what is used.
        variants: by name; the first is the default.
        decoder: the bundle's, if it has one.
        name: what it is served under; by default the bundle's own.
        choice: for a deployment, what is known of its variants' latencies.
    """

    manifest: Manifest
    variants: Mapping[str, Variant]
    decoder: Decoder | None = None
    name: str = ""
    choice: MeasuredVariants | None = None
    gate: InputGate = field(init=False)
    default: Variant = field(init=False)
    metadata: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.name or self.manifest.name
        self.gate = InputGate(self.signature)
        self.default = next(iter(self.variants.values()))
        facts: dict[str, str | bool | float] = {
            "variants": ",".join(self.variants),
            "default_variant": self.default.name,
        }
        if self.decoder is not None:
            facts["decoder"] = self.manifest.decoder
        if self.choice is not None:
            facts |= self.choice.facts()
        self.metadata = orjson.dumps(model_metadata(self.name, VERSION, self.signature, facts))

    @property
    def signature(self) -> Signature:
        """What every variant takes and gives."""
        return self.manifest.signature

    def variant(self, name: str) -> Variant:
        """Return the variant called ``name``; the default for an empty name.

        Raises:
            RequestFault: there is none; names those that exist.
        """
        if not name:
            return self.default
        found = self.variants.get(name)
        if found is None and self.choice is not None:
            # The file's names are long; the bundle's own is enough where it means one of them.
            meant = [variant for variant in self.variants.values() if variant.entry.name == name]
            found = meant[0] if len(meant) == 1 else None
        if found is None:
            raise RequestFault(
                f"model {self.name!r} has no variant {shown(name)}; there are: {', '.join(self.variants)}"
            )
        return found

    def check(self, variant: Variant, arrays: Arrays) -> None:
        """Check inputs for a variant.

        Raises:
            SignatureError: they do not fit the signature.
            RequestFault: the variant takes one sample at a time and got several.
        """
        self.gate.check(arrays)
        if variant.entry.dynamic_batch:
            return
        if (count := self.samples_in(arrays)) != 1:
            raise RequestFault(f"variant {variant.name!r} takes one sample at a time ({BATCH!r} 1), got {count}")

    def samples_in(self, arrays: Arrays) -> int:
        """Return how many samples checked inputs hold; one if nothing counts them."""
        return len(next(iter(arrays.values()))) if self.signature.batched else 1


def nearest_hint(name: str, known: Mapping[str, Any]) -> str:
    """Return ``Did you mean 'x'?``, or what there is."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(sorted(known)) or 'none'}."


def decoded(decoder: Decoder, outputs: Arrays) -> dict[str, NDArray[Any]]:
    """Apply a decoder; its answers are arrays by name."""
    return dict(decoder.decode(outputs))

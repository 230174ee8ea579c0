"""Runtime: what executes a variant's file, behind one protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deploykit.bundle import Bundle
    from deploykit.cards import RuntimeCard
    from deploykit.manifest import VariantEntry
    from deploykit.signature import Arrays


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """How a session runs.

    Attributes:
        threads: threads inside one operator; 0 for as many as the process may use, which who opens the session counts.
        spin: let idle threads spin; lowest latency for one stream, wasteful in a server.
    """

    threads: int = 1
    spin: bool = False


class Session(Protocol):
    """A loaded model; ``run`` may be called from several threads."""

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Return the outputs by name for inputs by name; inputs have been checked against the signature.

        Inputs must not be written to, and outputs must be the caller's own.
        """
        ...


class Runtime(ABC):
    """An engine that loads ONNX files.

    Attributes:
        targets: it runs the variants of a bundle that are written for any of these.
        distributions: packages, as pip names them, that bring the engine; any one of them.
        starts_from: ``file`` for an engine that needs only the bytes of the ONNX file; ``bundle`` for one that makes
            the model anew from the bundle's parts, which needs the training stack: never served, never selected.
        card: set by the registry.
    """

    targets: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    distributions: ClassVar[tuple[str, ...]] = ()
    starts_from: ClassVar[Literal["file", "bundle"]] = "file"
    card: RuntimeCard

    def version(self) -> str:
        """Return what its speed and its numbers depend on beside the file: library and version, driver, device.

        A measurement is bound to it and stale under another. Asked only where nothing is missing.
        """
        return ""

    def missing(self) -> str:
        """Return why it cannot run on this machine, with the way to mend it; empty if it can."""
        return ""

    @abstractmethod
    def open_session(self, model: bytes, options: RuntimeOptions) -> Session:
        """Load a model.

        Args:
            model: the checked bytes of the file, never a path: what was verified is what runs.

        Raises:
            ServingError: the runtime does not accept the model; say which operator or why.
        """

    def open_variant(self, bundle: Bundle, entry: VariantEntry, options: RuntimeOptions) -> Session:
        """Load a bundle's variant; by default its ONNX file.

        Override it for an engine that starts from more than the file: whatever is read, read it through
        :meth:`deploykit.bundle.Bundle.read`, which checks the hash in the manifest.

        Raises:
            ServingError: as :meth:`open_session`.
            BundleError: a file was changed after the bundle was written.
        """
        return self.open_session(bundle.read(entry.file), options)

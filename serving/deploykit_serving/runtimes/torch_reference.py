"""The hard form in PyTorch, made anew from a bundle: what every file is a writing of. To compare, never to serve."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from numpy.typing import NDArray

from deploykit.bundle import Bundle
from deploykit.errors import MissingExtraError, ServingError
from deploykit.manifest import VariantEntry
from deploykit.runtime import Runtime, RuntimeOptions, Session
from deploykit.signature import Arrays, Signature

if TYPE_CHECKING:
    from torch import nn


class TorchReference(Runtime):
    """Runs the hard form itself, whichever variant of it is named."""

    targets: ClassVar[tuple[str, ...]] = ("onnxruntime", "tensorrt", "openvino")
    distributions: ClassVar[tuple[str, ...]] = ("torch",)
    starts_from: ClassVar[Literal["file", "bundle"]] = "bundle"

    def missing(self) -> str:
        """Return which extra is missing, if PyTorch is not installed."""
        return "" if importlib.util.find_spec("torch") else str(MissingExtraError("torch", "export"))

    def version(self) -> str:
        """Return the version of PyTorch."""
        import torch

        return f"torch {torch.__version__}"

    def open_session(self, model: bytes, options: RuntimeOptions) -> Session:
        """Refuse: a file holds no PyTorch module.

        Raises:
            ServingError: always.
        """
        raise ServingError(
            "torch runs the hard form that a bundle is made of, not an ONNX file; open a variant of a bundle, or run "
            "the file in onnxruntime-cpu"
        )

    def open_variant(self, bundle: Bundle, entry: VariantEntry, options: RuntimeOptions) -> ModuleSession:
        """Harden the bundle's weights again.

        PyTorch counts threads for the whole process: the session opened last decides.

        Raises:
            ServingError: the variant is the float baseline, of which a bundle keeps only the file.
            BundleError: the bundle says not enough to make the form again, or was changed.
            ContractError: the method does not harden what the bundle holds.
        """
        if entry.role != "hard":
            raise ServingError(
                f"torch: variant {entry.name!r} is the float baseline, of which a bundle keeps only the file; run it "
                "in onnxruntime-cpu"
            )
        import torch

        from deploykit_export.torch_hops import forms_from_bundle

        torch.set_num_threads(options.threads)
        forms = forms_from_bundle(bundle)
        return ModuleSession(forms.hard.module, forms.signature)


class ModuleSession:
    """A module that keeps nothing between calls, so several threads may use it."""

    def __init__(self, module: nn.Module, signature: Signature) -> None:
        self._module = module.eval()
        self._signature = signature

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run the module once, without gradients."""
        from deploykit.outputs import run_module

        return run_module(self._module, inputs, self._signature)

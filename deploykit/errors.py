"""Every error deploykit raises on purpose, as one tree.

    DeploykitError                 exit code 1: something a person can mend
    ├── ConfigError                a setting is unknown or out of range
    ├── ContractError              a plugin broke a promise; the text speaks to its author
    ├── RegistryError              plugins and names
    │   ├── PluginError            a plugin did not load or offers the wrong thing
    │   ├── UnknownNameError       nothing is registered under that name
    │   └── DuplicateNameError     two plugins claim one name
    ├── MissingExtraError          an optional dependency is not installed
    ├── SignatureError             inputs do not fit the model's signature
    ├── BundleError                a bundle cannot be read or written
    │   └── BundleTamperedError    a file is not the one the manifest describes
    ├── TrainingError              training cannot start or go on
    ├── ExportError                a hard form could not be written
    ├── ProofError                 a proof failed; exit code 3
    ├── LatencyTableError          a latency table cannot answer or be read (in latency_block)
    ├── BudgetError                nothing that was measured meets a budget; exit code 4
    └── ServingError               a model cannot be served

A message says who, what was got, what was wanted and how to mend it.
"""

from __future__ import annotations

from typing import ClassVar, Final


class DeploykitError(Exception):
    """Base of every deliberate error; command lines print it without a traceback."""

    exit_code: ClassVar[int] = 1


class ConfigError(DeploykitError):
    """A setting is unknown, missing or out of range.

    Attributes:
        as_flags: the same text for people who gave the settings as command-line flags; empty if there is no other.
    """

    def __init__(self, text: str, as_flags: str = "") -> None:
        super().__init__(text)
        self.as_flags = as_flags


class ContractError(DeploykitError):
    """A plugin broke the contract; the text is written for the plugin's author."""


class RegistryError(DeploykitError):
    """Something is wrong with plugins or with the names they register."""


class PluginError(RegistryError):
    """A plugin did not load, or a hook of it returned the wrong thing."""


class UnknownNameError(RegistryError):
    """Nothing is registered under the name that was asked for."""


class DuplicateNameError(RegistryError):
    """Two plugins registered the same name."""


_EXTRA_OF: Final = {
    **dict.fromkeys(
        ("torch", "onnx", "onnxscript", "safetensors", "lightning_fabric", "sklearn", "torch_pruning"), "export"
    ),
    **dict.fromkeys(("bentoml", "hdrh", "onnxruntime", "orjson", "prometheus_client", "starlette", "uvicorn"), "serve"),
    **dict.fromkeys(("PIL", "cv2", "pyclipper", "skimage"), "text"),
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx",
}


class MissingExtraError(DeploykitError):
    """An optional dependency is needed and not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed; install the extra: pip install -c constraints.txt '.[{extra}]'")
        self.extra = extra

    @classmethod
    def from_import(cls, error: ImportError) -> MissingExtraError | None:
        """Return what a failed import means, or nothing if the module is of no extra of ours."""
        package = (error.name or "").partition(".")[0]
        extra = _EXTRA_OF.get(package) if isinstance(error, ModuleNotFoundError) else None
        return None if extra is None else cls(package, extra)


class SignatureError(DeploykitError):
    """Inputs or outputs do not fit a model's signature."""


class BundleError(DeploykitError):
    """A bundle cannot be read or written."""


class BundleTamperedError(BundleError):
    """A file in a bundle is not the one its manifest describes."""


class TrainingError(DeploykitError):
    """Training cannot start or go on."""


class ExportError(DeploykitError):
    """A hard form could not be written to a file."""


class ProofError(DeploykitError):
    """A proof failed; nothing is published unless the failure is accepted with a reason."""

    exit_code: ClassVar[int] = 3


class BudgetError(DeploykitError):
    """Nothing that was measured meets a budget; the message names the nearest and what it misses."""

    exit_code: ClassVar[int] = 4


class ServingError(DeploykitError):
    """A model cannot be loaded or served."""

"""prepare, penalty, on_step, harden: a method from the user's own training loop."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploykit.errors import ContractError
from deploykit.hard_form import HardForm
from deploykit.making import make_method
from deploykit.method import Method
from deploykit.signature import BATCH, Signature, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from deploykit.task import Task

_ATTRIBUTE = "_deploykit_binding"


@dataclass(frozen=True)
class Binding:
    """What the frame remembers of a soft form; travels with the module, also through ``copy.deepcopy``.

    Attributes:
        network: the user's own model as it was before :func:`prepare`, or ``None`` for architectures.
        example: a few inputs, in the signature's order.
    """

    method: Method[Any]
    signature: Signature
    example: tuple[Tensor, ...]
    network: nn.Module | None


def prepare(
    model: nn.Module,
    method: str | Method[Any],
    example: Tensor | tuple[Tensor, ...] | Mapping[str, Tensor],
    *,
    signature: Signature | None = None,
    **settings: Any,
) -> nn.Module:
    """Turn your own model into a method's trainable soft form.

    Train the result as usual, with ``loss + deploykit.penalty(soft)`` and, where the method anneals,
    ``deploykit.on_step(soft, progress)`` before each optimiser step; then call :func:`harden`.

    Args:
        model: left untouched; the soft form is made from a deep copy.
        method: a registered name, or a configured method.
        example: inputs of at least two samples, batch first.
        signature: names, dtypes and ranges; by default read off the model's ``forward`` and the example.
        settings: the method's settings, if it is given by name.

    Raises:
        UnknownNameError: no such method.  ConfigError: a setting does not fit.
        ContractError: the example has one sample only, or the method cannot work on this model.
    """
    if isinstance(method, str):
        method = make_method(method, settings)
    elif settings:
        raise ContractError(f"settings {sorted(settings)} were given beside a configured method; give one of them")
    inputs = _as_tuple(example)
    if any(tensor.shape[:1] == (1,) for tensor in inputs):
        raise ContractError("the example has one sample; give at least two, so that the batch can be told apart")
    if signature is None:
        signature = infer_signature(model, example)
    soft: nn.Module = method.prepare(copy.deepcopy(model), signature, inputs)
    return bind(soft, method, signature, inputs, network=copy.deepcopy(model))


def build(method: Method[Any], task: Task) -> nn.Module:
    """Make a method's soft form for a task; architectures build their own network."""
    soft: nn.Module = method.build(task)
    if getattr(soft, _ATTRIBUTE, None) is not None:
        return soft  # the method called prepare() of this module itself
    # The default build() prepares the task's network, so that network is what the hard form replaces.
    network = task.network() if type(method).build is Method.build else None
    return bind(soft, method, task.signature, task.example(), network)


def bind(
    soft: nn.Module, method: Method[Any], signature: Signature, example: tuple[Tensor, ...], network: nn.Module | None
) -> nn.Module:
    """Attach to a soft form what the frame needs to know of it later."""
    if network is not None:
        network.eval()
    object.__setattr__(soft, _ATTRIBUTE, Binding(method, signature, example, network))
    return soft


def binding_of(soft: nn.Module) -> Binding:
    """Return what :func:`prepare` attached.

    Raises:
        ContractError: the module is not a soft form made by deploykit.
    """
    binding = getattr(soft, _ATTRIBUTE, None)
    if not isinstance(binding, Binding):
        raise ContractError(
            f"{type(soft).__name__} is no soft form: make one with deploykit.prepare(model, method, example)"
        )
    return binding


def penalty(soft: nn.Module) -> Tensor:
    """Return the method's regulariser, a scalar to add to your loss."""
    return binding_of(soft).method.penalty(soft)


def on_step(soft: nn.Module, progress: float) -> None:
    """Let the method anneal; ``progress`` runs from 0 to 1 over training."""
    if not 0.0 <= progress <= 1.0:
        raise ContractError(f"progress must lie in [0, 1], got {progress}")
    binding_of(soft).method.on_step(soft, progress)


def harden(soft: nn.Module, calibration: Tensor | tuple[Tensor, ...] | None = None) -> HardForm:
    """Take the decisions: return the hard form, checked.

    Args:
        calibration: samples for methods that need statistics; the example given to :func:`prepare` by default.

    Raises:
        ContractError: the method broke a promise (shares a tensor, changes the soft form, is not deterministic,
            leaves a relaxation, changes the signature).
    """
    from deploykit.hardening import checked_harden

    binding = binding_of(soft)
    inputs = binding.example if calibration is None else _as_tuple(calibration)
    return checked_harden(binding.method, soft, inputs, binding.signature)


def infer_signature(model: nn.Module, example: Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]) -> Signature:
    """Read a signature off a model's ``forward`` and an example: batch free, other sizes fixed, ranges open."""
    import torch

    inputs = _as_tuple(example)
    parameters = [name for name in inspect.signature(model.forward).parameters if name != "self"]
    names = list(example) if isinstance(example, Mapping) else parameters[: len(inputs)]
    if len(names) < len(inputs):
        names = [f"input_{index}" for index in range(len(inputs))]
    trial = copy.deepcopy(model).eval()
    with torch.no_grad():
        returned = trial(*inputs)
    values = returned if isinstance(returned, (tuple, list)) else (returned,)
    outputs = ["output"] if len(values) == 1 else [f"output_{index}" for index in range(len(values))]
    return Signature(
        inputs=tuple(_spec(name, tensor) for name, tensor in zip(names, inputs, strict=True)),
        outputs=tuple(_spec(name, tensor) for name, tensor in zip(outputs, values, strict=True)),
    )


def _spec(name: str, tensor: Tensor) -> TensorSpec:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return TensorSpec.model_validate({"name": name, "dtype": dtype, "shape": (BATCH, *tensor.shape[1:])})


def _as_tuple(example: Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    if isinstance(example, Mapping):
        return tuple(example.values())
    return tuple(example) if isinstance(example, (tuple, list)) else (example,)

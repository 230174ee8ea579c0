"""prepare, penalty, on_step, harden: a method from the user's own training loop."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from deploykit.errors import ContractError
from deploykit.hard_form import HardForm
from deploykit.making import make_method
from deploykit.method import Method
from deploykit.signature import BATCH, DType, Signature, TensorSpec

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
        ContractError: the model does not run on the example, gives something other than tensors, the example has less
            than two samples, or the method cannot work on this model.
    """
    _check_model(model)
    if isinstance(method, str):
        method = make_method(method, settings)
    elif settings:
        raise ContractError(f"settings {sorted(settings)} were given beside a configured method; give one of them")
    inputs = _as_tuple(example)
    if any(tensor.shape[:1] in {(0,), (1,)} for tensor in inputs):
        few = min(len(tensor) for tensor in inputs if tensor.ndim)
        raise ContractError(
            f"the example has {'one sample' if few else 'no sample'}; give at least two, so that the batch can be told "
            "apart"
        )
    if signature is None:
        signature = infer_signature(model, example)
    try:
        soft = _checked_soft(method, "prepare", method.prepare(copy.deepcopy(model), signature, inputs))
        if _other_precisions(model):
            copy.deepcopy(soft).eval()(*inputs)
    except RuntimeError as error:
        if not (precisions := _other_precisions(model)):
            raise
        raise ContractError(
            f"{_name_of(method)} cannot work on {type(model).__name__} in {', '.join(precisions)}: "
            f"{str(error).strip().splitlines()[0]}. Give model and example in float32, with .float(); to train in "
            "half precision use autocast"
        ) from error
    return bind(soft, method, signature, inputs, network=copy.deepcopy(model))


def build(method: Method[Any], task: Task) -> nn.Module:
    """Make a method's soft form for a task; architectures build their own network."""
    soft = _checked_soft(method, "build", method.build(task))
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
    """Read a signature off a model's ``forward`` and an example: batch free, other sizes fixed, ranges open.

    Raises:
        ContractError: the model does not run on the example, or gives something other than tensors with the batch
            first.
    """
    import torch

    _check_model(model)
    inputs = _as_tuple(example)
    if not inputs or not all(tensor.ndim for tensor in inputs):
        raise ContractError("the example must hold at least one tensor, each with the batch first")
    parameters = [name for name in inspect.signature(model.forward).parameters if name != "self"]
    names = list(example) if isinstance(example, Mapping) else parameters[: len(inputs)]
    if len(names) < len(inputs):
        names = [f"input_{index}" for index in range(len(inputs))]
    trial = copy.deepcopy(model).eval()
    try:
        with torch.no_grad():
            returned = trial(*inputs)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        given = ", ".join(f"{_dtype(tensor)}{list(tensor.shape)}" for tensor in inputs)
        raise ContractError(
            f"{type(model).__name__} does not run on the example ({given}), given in forward's order: "
            f"{str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}"
        ) from error
    values = returned if isinstance(returned, (tuple, list)) else (returned,)
    for value in values:
        _check_output(model, value, len(inputs[0]))
    outputs = ["output"] if len(values) == 1 else [f"output_{index}" for index in range(len(values))]
    if clash := set(names) & set(outputs):
        outputs = [f"{name}_of_model" if name in clash else name for name in outputs]
    return Signature(
        inputs=tuple(_spec(name, tensor) for name, tensor in zip(names, inputs, strict=True)),
        outputs=tuple(_spec(name, tensor) for name, tensor in zip(outputs, values, strict=True)),
    )


def _checked_soft(method: Method[Any], maker: str, soft: object) -> nn.Module:
    from torch import nn

    if not isinstance(soft, nn.Module):
        raise ContractError(
            f"{_name_of(method)}: {maker} must return the soft form, a torch.nn.Module, got {type(soft).__name__}"
        )
    return soft


def _name_of(method: Method[Any]) -> str:
    return method.card.name if hasattr(method, "card") else type(method).__name__


def _other_precisions(model: nn.Module) -> list[str]:
    return sorted({_dtype(item) for item in model.parameters() if item.is_floating_point()} - {"float32"})


def _check_model(model: object) -> None:
    from torch import nn

    if not isinstance(model, nn.Module):
        raise ContractError(f"the model is a {type(model).__name__}; wanted a torch.nn.Module")


def _check_output(model: nn.Module, value: object, samples: int) -> None:
    from torch import Tensor

    if not isinstance(value, Tensor):
        raise ContractError(
            f"{type(model).__name__} returned a {type(value).__name__}; wanted a tensor or a tuple of tensors: wrap "
            "the model in a module whose forward returns those, in a fixed order"
        )
    if value.shape[:1] != (samples,):
        raise ContractError(
            f"{type(model).__name__} returned {_dtype(value)}{list(value.shape)} for {samples} samples; wanted one "
            f"answer a sample, batch first: [{samples}, ...]; or say with signature=... what the dimensions are"
        )


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _spec(name: str, tensor: Tensor) -> TensorSpec:
    dtype = _dtype(tensor)
    if dtype not in get_args(DType):
        raise ContractError(
            f"tensor {name!r} is {dtype}, which numpy and most runtimes do not have; wanted float32 or another of "
            f"{', '.join(get_args(DType))}: convert the model and the example, for instance with .float()"
        )
    return TensorSpec.model_validate({"name": name, "dtype": dtype, "shape": (BATCH, *tensor.shape[1:])})


def _as_tuple(example: Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    from torch import Tensor

    if isinstance(example, Mapping):
        inputs = tuple(example.values())
    else:
        inputs = tuple(example) if isinstance(example, (tuple, list)) else (example,)
    for value in inputs:
        if not isinstance(value, Tensor):
            raise ContractError(
                f"the example holds a {type(value).__name__}; wanted torch tensors, one an input of forward, batch "
                "first"
            )
    return inputs

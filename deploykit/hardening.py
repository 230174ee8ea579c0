"""Harden, with what the author promised checked by the frame."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from deploykit.errors import ContractError, SignatureError
from deploykit.hard_form import HardForm
from deploykit.method import Method
from deploykit.outputs import named_outputs
from deploykit.signature import Signature

RELAXATION_MARK = "deploykit_relaxation"
"""Modules that exist for training only carry this attribute, set to true; none may be left in a hard form."""


def checked_harden(method: Method[Any], soft: nn.Module, inputs: tuple[Tensor, ...], signature: Signature) -> HardForm:
    """Run a method's ``harden`` between checked pre- and postconditions.

    The soft form is put into eval mode for the call and its modes are restored afterwards.

    Raises:
        ContractError: naming the method and the promise it broke.
    """
    name = method.card.name if hasattr(method, "card") else type(method).__name__
    modes = {module: module.training for module in soft.modules()}
    soft.eval()
    try:
        before = state_digest(soft)
        trained = {path for path, parameter in soft.named_parameters() if parameter.requires_grad}
        with torch.no_grad():
            hard = method.harden(soft, inputs)
        if not isinstance(hard, HardForm):
            raise ContractError(f"{name}: harden must return a HardForm, got {type(hard).__name__}")
        if state_digest(soft) != before:
            raise ContractError(f"{name}: harden changed the soft form's tensors; copy before you write")
        if {path for path, parameter in soft.named_parameters() if parameter.requires_grad} != trained:
            raise ContractError(f"{name}: harden froze or freed the soft form's parameters; do that on a copy")
        hard.module.eval()
        modules = {"": hard.module}
        modules |= {low: lowering.module for low, lowering in hard.lowerings.items() if lowering.module is not None}
        if not hard.lowerings:
            raise ContractError(f"{name}: the hard form has no lowering, so nothing could be written")
        for lowering, module in modules.items():
            who = f"{name}: lowering {lowering!r}" if lowering else name
            module.eval()
            _check_nothing_shared(who, soft, module)
            _check_no_relaxation(who, module)
            _check_behaviour(who, module, inputs, signature)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return hard


def state_digest(module: nn.Module) -> str:
    """Return a hash over names, dtypes, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def _check_nothing_shared(who: str, soft: nn.Module, hard: nn.Module) -> None:
    if hard is soft:
        raise ContractError(f"{who}: harden returned its argument; return a new module")
    soft_modules = {id(module): path for path, module in soft.named_modules()}
    for path, module in hard.named_modules():
        if id(module) in soft_modules:
            raise ContractError(
                f"{who}: the hard form's module {path!r} is the soft form's {soft_modules[id(module)]!r}; copy it"
            )
    storages = {_storage(tensor): path for path, tensor in _tensors(soft) if tensor.numel()}
    for path, tensor in _tensors(hard):
        if tensor.numel() and (owner := storages.get(_storage(tensor))) is not None:
            raise ContractError(
                f"{who}: the hard form's tensor {path!r} shares memory with the soft form's {owner!r}; "
                "clone it in harden"
            )


def _check_no_relaxation(who: str, hard: nn.Module) -> None:
    for path, module in hard.named_modules():
        if getattr(module, RELAXATION_MARK, False):
            raise ContractError(
                f"{who}: {type(module).__name__} at {path!r} is a relaxation for training; put its hard twin there"
            )


def _check_behaviour(who: str, hard: nn.Module, inputs: tuple[Tensor, ...], signature: Signature) -> None:
    originals = tuple(copy.deepcopy(tensor) for tensor in inputs)
    before = state_digest(hard)
    with torch.no_grad():
        random_state = torch.random.get_rng_state()
        # Copies: a module may hand out a buffer of its own, which its next run then changes.
        first = {output: tensor.clone() for output, tensor in _outputs(who, hard(*inputs), signature).items()}
        if not torch.equal(torch.random.get_rng_state(), random_state):
            raise ContractError(f"{who}: the hard form draws random numbers; take the decision once, in harden")
        second = _outputs(who, hard(*inputs), signature)
    for original, tensor in zip(originals, inputs, strict=True):
        if not torch.equal(original, tensor):
            raise ContractError(f"{who}: the hard form writes into its input; work on a copy")
    for output, tensor in second.items():
        if tensor.requires_grad:
            raise ContractError(f"{who}: output {output!r} still tracks gradients")
    # Before the comparison: NaN is not equal to itself, and says so better here.
    try:
        signature.check_outputs({output: tensor.numpy() for output, tensor in first.items()})
    except SignatureError as error:
        raise ContractError(f"{who}: the hard form does not keep the signature: {error}") from error
    for output, tensor in first.items():
        if _bytes(tensor) != _bytes(second[output]):
            raise ContractError(f"{who}: output {output!r} differs between two runs on the same input")
    if state_digest(hard) != before:
        raise ContractError(f"{who}: the hard form changes its own tensors when it runs; an answer must leave no trace")


def _outputs(who: str, returned: object, signature: Signature) -> dict[str, Tensor]:
    try:
        outputs = named_outputs(returned, signature)
    except ContractError as error:
        raise ContractError(f"{who}: {error}") from error
    for output, tensor in outputs.items():
        if not isinstance(tensor, Tensor):
            raise ContractError(f"{who}: output {output!r} is a {type(tensor).__name__}; wanted a tensor")
    return outputs


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Return parameters, buffers and tensors that are plain attributes, which torch itself overlooks."""
    plain = [
        (f"{path}.{name}".lstrip("."), value)
        for path, part in module.named_modules()
        for name, value in vars(part).items()
        if isinstance(value, Tensor)
    ]
    return [*module.named_parameters(), *module.named_buffers(), *plain]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()

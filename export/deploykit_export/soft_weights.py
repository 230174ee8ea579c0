"""Soft weights as safetensors, and the soft form made anew from a bundle."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from deploykit.bundle import Bundle
from deploykit.errors import BundleError, ConfigError, DeploykitError
from deploykit.lifecycle import build, prepare
from deploykit.making import make_method, make_task
from deploykit.method import Method
from deploykit.outputs import tensors
from deploykit.task import Task
from deploykit_export.heldout import CALIBRATION, unpack

SOFT_WEIGHTS: Final = "weights/soft.safetensors"


def weights_to_bytes(module: nn.Module) -> bytes:
    """Return all parameters and buffers as a safetensors file; tied tensors are written once for each name."""
    return save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()})


def load_weights(module: nn.Module, data: bytes, *, source: str) -> None:
    """Load a safetensors file into a module.

    Raises:
        BundleError: it is malformed, or its tensors are not the module's; names the first that differs.
    """
    try:
        state = load(data)
    except SafetensorError as error:
        raise BundleError(f"{source}: not a safetensors file: {error}") from error
    own = module.state_dict()
    for name in sorted({*own, *state}):
        if name not in state or name not in own:
            where = "missing from" if name not in state else "unknown to the model but in"
            raise BundleError(f"{source}: tensor {name!r} is {where} the file; was it written for other settings?")
        if own[name].shape != state[name].shape:
            raise BundleError(
                f"{source}: tensor {name!r} is {tuple(state[name].shape)}; the model has {tuple(own[name].shape)}"
            )
    module.load_state_dict(state)


def own_network(network: str) -> nn.Module:
    """Make the user's own network; the current folder is searched too, after everything that is installed.

    Args:
        network: ``package.module:function``; the function takes nothing and returns an ``nn.Module``.

    Raises:
        ConfigError: it cannot be made.
    """
    module, _, function = network.partition(":")
    sys.path.append(os.getcwd())  # a program's own path starts at its folder, not where it was started
    try:
        made = getattr(importlib.import_module(module), function)()
    except Exception as error:
        raise ConfigError(f"network {network!r} cannot be made: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop()
    if not isinstance(made, nn.Module):
        raise ConfigError(f"network {network!r} gave a {type(made).__name__}; wanted a torch.nn.Module")
    return made


def make_soft(method: Method[Any], task: Task | None, network: str) -> nn.Module:
    """Make an untrained soft form: of the user's own network, one of the task's networks, or what the method builds.

    Args:
        network: empty, a name the task knows, or ``package.module:function`` returning an ``nn.Module``.

    Raises:
        ConfigError: the network cannot be made, or there is neither task nor network.
    """
    if task is None:
        raise ConfigError("a task is needed to make the soft form; name one, or prepare() your model in Python")
    if not network:
        return build(method, task)
    made = own_network(network) if ":" in network else task.network(network)
    return prepare(made, method, task.example(), signature=task.signature)


def soft_from_bundle(bundle: Bundle) -> nn.Module:
    """Make the trained soft form a bundle was written from.

    Raises:
        BundleError: the bundle does not say enough (neither task nor network), or its weights do not fit.
    """
    manifest = bundle.manifest
    if SOFT_WEIGHTS not in manifest.files:
        raise BundleError(f"{bundle.path}: it was made from a ready file and holds no soft form")
    if not manifest.task and ":" not in manifest.network:
        raise BundleError(
            f"{bundle.path}: neither task nor network is named, so the soft form cannot be made again; export with "
            "export_bundle(..., network='package.module:function'), a function that makes your model"
        )
    method = make_method(manifest.method, manifest.config)
    try:
        if manifest.task:
            soft = make_soft(method, make_task(manifest.task), manifest.network)
        else:
            example = calibration_from_bundle(bundle)
            soft = prepare(own_network(manifest.network), method, example, signature=manifest.signature)
    except DeploykitError as error:
        raise BundleError(f"{bundle.path}: the soft form cannot be made again: {error}") from error
    load_weights(soft, bundle.read(SOFT_WEIGHTS), source=f"{bundle.path}: {SOFT_WEIGHTS}")
    return soft.eval()


def calibration_from_bundle(bundle: Bundle) -> tuple[torch.Tensor, ...]:
    """Return the samples the hard form was calibrated with."""
    return tensors(unpack(bundle.read(CALIBRATION))["input"], bundle.manifest.signature)

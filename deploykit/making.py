"""From a name and settings to a configured method, task, decoder, target or runtime."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from deploykit.cards import Card, DecoderCard, MethodCard, RuntimeCard, TargetCard, TaskCard
from deploykit.decoder import Decoder
from deploykit.errors import ConfigError, PluginError
from deploykit.method import Method
from deploykit.registry import Registry, installed, load_implementation
from deploykit.runtime import Runtime
from deploykit.target import Target
from deploykit.task import Task

ConfigT = TypeVar("ConfigT", bound=BaseModel)
PartT = TypeVar("PartT")


def make_method(name: str, config: Mapping[str, Any] | None = None, registry: Registry | None = None) -> Method[Any]:
    """Return the method called ``name`` with the given settings.

    Raises:
        UnknownNameError, DuplicateNameError, PluginError: the name does not lead to a method.
        ConfigError: a setting is unknown or out of range.
    """
    card = (registry or installed()).card(MethodCard, name)
    method_type = _implementation(card, Method)
    method: Method[Any] = method_type(validated(method_type.Config, config or {}, name))
    method.card = card
    return method


def make_task(name: str, registry: Registry | None = None) -> Task:
    """Return the task called ``name``; raises as :func:`make_method`."""
    card = (registry or installed()).card(TaskCard, name)
    task = _implementation(card, Task)()
    task.card = card
    return task


def make_decoder(name: str, config: Mapping[str, Any] | None = None, registry: Registry | None = None) -> Decoder:
    """Return the decoder called ``name`` with the given settings; raises as :func:`make_method`."""
    card = (registry or installed()).card(DecoderCard, name)
    decoder_type = _implementation(card, Decoder)
    decoder = decoder_type(validated(decoder_type.Config, config or {}, name))
    decoder.card = card
    return decoder


def make_target(name: str, registry: Registry | None = None) -> Target:
    """Return the target called ``name``; raises as :func:`make_method`."""
    card = (registry or installed()).card(TargetCard, name)
    target = _implementation(card, Target)()
    target.card = card
    return target


def make_runtime(name: str, registry: Registry | None = None) -> Runtime:
    """Return the runtime called ``name``; raises as :func:`make_method`."""
    card = (registry or installed()).card(RuntimeCard, name)
    runtime = _implementation(card, Runtime)()
    runtime.card = card
    return runtime


def validated(config_type: type[ConfigT], settings: Mapping[str, Any], owner: str) -> ConfigT:
    """Check settings against a config class.

    Raises:
        ConfigError: naming the owner, the setting, what was got and what was wanted; suggests the nearest name.
    """
    for name in settings:
        if name not in config_type.model_fields:
            known = sorted(config_type.model_fields)
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"It has: {', '.join(known) or 'no settings'}."
            raise ConfigError(f"{owner} has no setting {name!r}. {hint}")
    try:
        return config_type.model_validate(dict(settings))
    except ValidationError as error:
        faults = [
            f"{owner}: setting {'.'.join(str(part) for part in fault['loc'])!r}: {fault['msg']}, got {fault['input']!r}"
            for fault in error.errors()
        ]
        raise ConfigError("\n".join(faults)) from error


def _implementation(card: Card, wanted: type[PartT]) -> type[PartT]:
    got = load_implementation(card)
    if not issubclass(got, wanted):
        raise PluginError(
            f"{card.name}: {card.implementation!r} must be a subclass of deploykit.{card.contract}, "
            f"got {got.__module__}.{got.__qualname__}"
        )
    if missing := sorted(getattr(got, "__abstractmethods__", ())):
        raise PluginError(f"{card.name}: {card.implementation!r} lacks {', '.join(missing)}; every plugin writes those")
    return got

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
    task: Task = _implementation(card, Task)()
    task.card = card
    return task


def make_decoder(name: str, config: Mapping[str, Any] | None = None, registry: Registry | None = None) -> Decoder:
    """Return the decoder called ``name`` with the given settings; raises as :func:`make_method`."""
    card = (registry or installed()).card(DecoderCard, name)
    decoder_type = _implementation(card, Decoder)
    decoder: Decoder = decoder_type(validated(decoder_type.Config, config or {}, name))
    decoder.card = card
    return decoder


def make_target(name: str, registry: Registry | None = None) -> Target:
    """Return the target called ``name``; raises as :func:`make_method`."""
    card = (registry or installed()).card(TargetCard, name)
    target: Target = _implementation(card, Target)()
    target.card = card
    return target


def make_runtime(name: str, registry: Registry | None = None) -> Runtime:
    """Return the runtime called ``name``; raises as :func:`make_method`."""
    card = (registry or installed()).card(RuntimeCard, name)
    runtime: Runtime = _implementation(card, Runtime)()
    runtime.card = card
    return runtime


def validated(config_type: type[ConfigT], settings: Mapping[str, Any], owner: str) -> ConfigT:
    """Check settings against a config class.

    Raises:
        ConfigError: naming the owner, the setting, what was got and what was wanted; suggests the nearest name.
    """
    for name in settings:
        if name not in config_type.model_fields:
            raise _unknown_setting(name, sorted(config_type.model_fields), owner)
    try:
        return config_type.model_validate(dict(settings))
    except ValidationError as error:
        faults = [
            (".".join(str(part) for part in fault["loc"]), fault["msg"], fault["input"]) for fault in error.errors()
        ]
        raise ConfigError(
            "\n".join(f"{owner}: setting {name!r}: {words}, got {got!r}" for name, words, got in faults),
            as_flags="\n".join(
                f"{owner}: {_flag(name)} {words.removeprefix('Input ')}, got {got}" for name, words, got in faults
            ),
        ) from error


def _unknown_setting(name: str, known: list[str], owner: str) -> ConfigError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"It has: {', '.join(known) or 'no settings'}."
    flags = f"Did you mean {_flag(near[0])}?" if near else f"It has: {', '.join(map(_flag, known)) or 'no flags'}."
    return ConfigError(
        f"{owner} has no setting {name!r}. {hint}", as_flags=f"{owner} has no flag {_flag(name)}. {flags}"
    )


def _flag(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


def _implementation(card: Card, wanted: type[Any]) -> Any:
    got = load_implementation(card)
    if not issubclass(got, wanted):
        raise PluginError(
            f"{card.name}: {card.implementation!r} must be a subclass of deploykit.{card.contract}, "
            f"got {got.__module__}.{got.__qualname__}"
        )
    if missing := sorted(getattr(got, "__abstractmethods__", ())):
        raise PluginError(f"{card.name}: {card.implementation!r} lacks {', '.join(missing)}; every plugin writes those")
    return got

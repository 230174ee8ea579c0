"""Every hook a plugin may implement, and the two markers.

A plugin is a module named by an entry point of group ``deploykit``. Implementations may take fewer arguments than
specified here, never more, so that adding an argument breaks nobody. A plugin may say which version of this contract
it was written for, in a module attribute ``deploykit_contract``; see :mod:`deploykit.contract_version`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from deploykit.cards import DecoderCard, MethodCard, RuntimeCard, TargetCard, TaskCard
    from deploykit.choice import Asked, Candidate

hookspec = pluggy.HookspecMarker("deploykit")
hookimpl = pluggy.HookimplMarker("deploykit")


@hookspec
def deploykit_methods() -> Iterable[MethodCard]:
    """Return the cards of the methods this plugin offers.

    Called once, when the registry is first read. Build no model and import no torch here: the registry times the
    call and imports a card's implementation only when the method is used. A name that another plugin also claims is
    an error for both.
    """
    raise NotImplementedError


@hookspec
def deploykit_tasks() -> Iterable[TaskCard]:
    """Return the cards of the tasks (data, loss, metric) this plugin offers.

    Called once, when the registry is first read, under the same rules as :func:`deploykit_methods`.
    """
    raise NotImplementedError


@hookspec
def deploykit_decoders() -> Iterable[DecoderCard]:
    """Return the cards of the decoders (host post-processing) this plugin offers.

    Called once, when the registry is first read. Decoders run in the serving process: their modules must not import
    torch, which the contract suite checks.
    """
    raise NotImplementedError


@hookspec
def deploykit_targets() -> Iterable[TargetCard]:
    """Return the cards of the targets (formats that ``export --target`` writes) this plugin offers.

    Called once, when the registry is first read, under the same rules as :func:`deploykit_methods`. What a target
    needs is looked for in :meth:`deploykit.Target.missing`, not here.
    """
    raise NotImplementedError


@hookspec
def deploykit_runtimes() -> Iterable[RuntimeCard]:
    """Return the cards of the runtimes (what executes a file) this plugin offers.

    Called once, when the registry is first read, under the same rules as :func:`deploykit_methods`.
    ``verify --runtime`` compares a runtime with ONNX Runtime, ``serve --runtime`` answers with it.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def deploykit_choose_variant(candidates: Sequence[Candidate], asked: Asked) -> str | None:
    """Return the name of the candidate that answers a request, or ``None`` to leave it to the next plugin.

    Called by the server for each request to a model that was deployed with several variants and that names none
    itself, on the event loop: do nothing but arithmetic. Candidates come in the deployment's order, the one ``select``
    chose first. The first plugin that returns a name decides; if none does, the server's own policy does: the best
    metric among those predicted to meet the budget. An exception or an unknown name is logged once and counts as
    ``None``.
    """
    raise NotImplementedError


@hookspec
def deploykit_cli() -> Iterable[tuple[str, Callable[..., None]]]:
    """Return further verbs for the command line, as ``(name, function)`` pairs that typer understands.

    Called when the command line starts, so import nothing heavy. A name that deploykit or another plugin already
    uses is refused: the verb is left out and the plugin reported.
    """
    raise NotImplementedError


@hookspec
def deploykit_bundle_written(path: Path) -> None:
    """Be told that a bundle was published at ``path``.

    Called after the rename that publishes it, once for each export, verify or profile. The bundle must not be
    changed here; an exception is reported as a warning and does not undo the publication.
    """
    raise NotImplementedError

"""The kinds of plugins that can be begun from a template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from deploykit.cards import Card, DecoderCard, MethodCard, RuntimeCard, TargetCard, TaskCard


@dataclass(frozen=True, slots=True)
class PluginKind:
    """One kind of plugin, with the folder of templates of the same name.

    Attributes:
        card: what it registers; ``None`` for verbs of the command line, which have no card.
        suffix: what the class's name ends with, so that no name hides another.
        offers: one line on what the template does, for the package's description.
        use: a command that uses what was made; ``$name`` stands for its name.
        module: the implementation's file, where it is not called as the plugin is.
        needs: the packages that the template imports and deploykit's own installation does not promise, as pip
            calls them.
    """

    name: str
    card: type[Card] | None
    suffix: str
    offers: str
    use: str
    module: str = ""
    needs: tuple[str, ...] = ()

    @property
    def noun(self) -> str:
        """What people call the thing that is offered."""
        return "command" if self.card is None else self.card.kind


_ALL: Final = (
    PluginKind(
        "layer", MethodCard, "Method", "a method that gives the linear layers of any model weights of one bit",
        "deploykit train $name",
    ),
    PluginKind(
        "architecture", MethodCard, "Method", "a method with a network of its own, whose hidden units become bits",
        "deploykit train $name",
    ),
    PluginKind(
        "task", TaskCard, "Task", "a task: tell three kinds of wine apart by thirteen measurements",
        "deploykit train plain.passthrough --task $name", needs=("scikit-learn",),
    ),
    PluginKind(
        "target", TargetCard, "Target", "a target: each ONNX file packed, beside a manifest that says what is in it",
        "deploykit export RUN --target $name", needs=("onnx",),
    ),
    PluginKind(
        "runtime", RuntimeCard, "Runtime", "a runtime: ONNX files run by the reference evaluator of the onnx package",
        "deploykit verify BUNDLE --runtime $name", needs=("onnx",),
    ),
    PluginKind(
        "decoder", DecoderCard, "Decoder", "a decoder: from class scores to the best class and how sure it is",
        "deploykit plugins",
    ),
    PluginKind(
        "command", None, "Command", "a command: how much smaller the variants of a bundle are than the float model",
        "deploykit $name BUNDLE", module="variant_sizes",
    ),
)  # fmt: skip

KINDS: Final = {kind.name: kind for kind in _ALL}
"""By name, in the order in which they are told."""

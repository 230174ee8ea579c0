"""Find feed-forward blocks in anybody's model, and exchange layers in place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from deploykit.errors import ContractError
from deploykit.trial_runs import count_runs

_ACTIVATIONS = (nn.ReLU, nn.GELU)


@dataclass(frozen=True, slots=True)
class Block:
    """``Linear -> ReLU or GELU -> Linear``, side by side in one ``nn.Sequential``.

    Attributes:
        path: of the first Linear, as in ``named_modules``.
    """

    path: str
    parent: nn.Sequential
    names: tuple[str, str, str]
    features_in: int
    features_out: int

    def replace(self, layer: nn.Module) -> None:
        """Put ``layer`` in the place of the first Linear; identities keep the others' places and names."""
        first, *others = self.names
        setattr(self.parent, first, layer)
        for name in others:
            setattr(self.parent, name, nn.Identity())


def feed_forward_blocks(model: nn.Module) -> list[Block]:
    """Return all blocks of a model in order; in a chain of Linear layers the first two make one, and so on.

    Raises:
        ContractError: there is none.
    """
    blocks = [
        block for path, module in model.named_modules() if isinstance(module, nn.Sequential)
        for block in _blocks_of(path, module)
    ]  # fmt: skip
    if not blocks:
        kinds = ", ".join(sorted({type(module).__name__ for module in model.modules()}))
        raise ContractError(
            f"{type(model).__name__} has no feed-forward block to route: looked for Linear -> ReLU or GELU -> Linear "
            f"side by side in an nn.Sequential, found only {kinds}; put the block's three layers into an nn.Sequential"
        )
    return blocks


def check_run_once(model: nn.Module, blocks: list[Block], inputs: tuple[Tensor, ...]) -> None:
    """Check on an example that each replaced block runs exactly once, so that its decision has one meaning.

    Raises:
        ContractError: a block runs not at all, or several times.
    """
    first = {block.path: block.parent.get_submodule(block.names[0]) for block in blocks}
    for path, count in count_runs(model, first, inputs).items():
        if count != 1:
            raise ContractError(
                f"feed-forward block {path!r} runs {count} times for one input; wanted exactly once: give each use a "
                "block of its own, and take unused ones out of the model"
            )


def _blocks_of(path: str, parent: nn.Sequential) -> Iterator[Block]:
    children = list(parent._modules.items())
    index = 0
    while index + 2 < len(children):
        (name, first), (middle, activation), (end, last) = children[index : index + 3]
        if isinstance(first, nn.Linear) and isinstance(activation, _ACTIVATIONS) and isinstance(last, nn.Linear):
            whole = f"{path}.{name}" if path else name
            yield Block(whole, parent, (name, middle, end), first.in_features, last.out_features)
            index += 3
        else:
            index += 1

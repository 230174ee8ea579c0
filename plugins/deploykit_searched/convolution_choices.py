"""Turn the 3x3 convolutions of anybody's model into choices."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from deploykit.errors import ContractError
from deploykit.trial_runs import in_eval_mode
from deploykit_searched.choices import Choice
from deploykit_searched.layer_exchange import exchanged
from deploykit_searched.operators import NONE, operator


def with_choices(model: nn.Module, operators: Sequence[str]) -> nn.Module:
    """Put a choice in the place of each 3x3 convolution of stride 1, in place; return the model.

    The candidate ``conv_3`` is the model's own layer with its weights. The others answer in its shape, have a bias
    where it has one and no batch norm: the model's own follows where there is one. Candidates that cannot keep the
    shape are left out, and ``none`` is, because it would cut the network; a convolution with less than two candidates
    stays as it is.

    Raises:
        ContractError: there is no such convolution.
    """

    def exchange(_: str, layer: nn.Module) -> nn.Module | None:
        if not _searchable(layer):
            return None
        assert isinstance(layer, nn.Conv2d)
        candidates: dict[str, nn.Module] = {}
        for name in operators:
            made = layer if name == "conv_3" else _like(layer, name)
            if made is not None and name != NONE:
                candidates[name] = made
        return Choice(candidates).to(layer.weight) if len(candidates) > 1 else None

    found = exchanged(model, exchange)
    if not any(isinstance(part, Choice) for part in found.modules()):
        kinds = ", ".join(sorted({type(part).__name__ for part in model.modules()}))
        raise ContractError(
            f"{type(model).__name__} has nothing to search: looked for deploykit_searched.Choice layers, and for "
            "Conv2d of kernel 3x3, stride 1, no groups and no dilation that at least two of "
            f"{', '.join(operators)} could stand for; found only {kinds}. Put a Choice where an operator is to be "
            "searched"
        )
    return found


def check_runs(model: nn.Module, found: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Run the model with its choices once.

    Raises:
        ContractError: it does not run; most often its ``forward`` reads a layer's weight itself.
    """
    try:
        with in_eval_mode(found):
            found(*inputs)
    except (AttributeError, RuntimeError, TypeError) as error:
        raise ContractError(
            f"{type(model).__name__} does not run with choices in the place of its 3x3 convolutions: "
            f"{type(error).__name__}: {error}. Mark what is to be searched with deploykit_searched.Choice instead"
        ) from error


def _searchable(layer: nn.Module) -> bool:
    # Not isinstance: a subclass may compute something else, and a parametrised layer is one.
    return (
        type(layer) is nn.Conv2d
        and layer.kernel_size == (3, 3)
        and layer.stride == (1, 1)
        and layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
    )


def _like(layer: nn.Conv2d, name: str) -> nn.Module | None:
    match layer.padding:
        case "same":
            padding = (1, 1)
        case "valid":
            padding = (0, 0)
        case (int(rows), int(columns)):
            padding = (rows, columns)
        case _:
            return None
    bias = layer.bias is not None
    return operator(name, layer.in_channels, layer.out_channels, padding=padding, bias=bias, norm=False)

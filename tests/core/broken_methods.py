"""One broken method for each promise that the contract suites look after."""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deploykit import Decision, HardForm, Lowering, Promise, Signature, Tolerance
from deploykit.decision_marks import mark_decision
from tests.core.honest_method import Hard, Honest, Soft


class Deaf(Honest):
    """Holds a parameter that nothing learns."""

    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> Any:
        soft = Soft(model)
        soft.extra = nn.Parameter(torch.ones(2))
        return soft


class Bursting(Honest):
    """In the middle of training the gradient is no number, which is more than nothing."""

    def on_step(self, soft: Any, progress: float) -> None:
        soft.middle = progress == 0.5

    def penalty(self, soft: Any) -> Tensor:
        return soft.layer.bias.sum() * (float("nan") if soft.middle else 1.0)  # type: ignore[no-any-return]


class Dicing(Honest):
    def harden(self, soft: Any, inputs: tuple[Tensor, ...]) -> HardForm:
        return HardForm(Hard(soft.layer.weight, soft.layer.bias + torch.rand(3)))


class Scaled(Hard):
    scale = 1.0

    def score(self, x: Tensor) -> Tensor:
        return super().score(x) * self.scale


class Counting(Honest):
    """Every hard form has the same tensors and answers otherwise."""

    numbers = itertools.count(1)

    def harden(self, soft: Any, inputs: tuple[Tensor, ...]) -> HardForm:
        hard = Scaled(soft.layer.weight, soft.layer.bias)
        hard.scale = float(next(self.numbers))
        return HardForm(hard)


class Remembering(Honest):
    """What decides is an attribute, lost with the object."""

    def on_step(self, soft: Any, progress: float) -> None:
        soft.scale = 1.0 + progress

    def harden(self, soft: Any, inputs: tuple[Tensor, ...]) -> HardForm:
        hard = Scaled(soft.layer.weight, soft.layer.bias)
        hard.scale = getattr(soft, "scale", 1.0)
        return HardForm(hard)


class WrongOracle(Honest):
    def oracle(self, soft: Any, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
        return {"y": super().oracle(soft, inputs)["y"] + np.float32(0.01)}


class EchoingOracle(Honest):
    def oracle(self, soft: Any, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
        return {"y": self.harden(soft, inputs).module(*inputs).numpy()}


class SilentOracle(Honest):
    def oracle(self, soft: Any, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
        return {}


class Zeros(Hard):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 0.0 - 0.0


class NegativeZero(Honest):
    """Promises equality and is off by a sign that no number shows."""

    hard = Zeros
    promise = Promise(tolerance=Tolerance())

    def oracle(self, soft: Any, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
        return {"y": np.zeros((len(inputs[0]), 3), np.float32)}


class Centred(Hard):
    def score(self, x: Tensor) -> Tensor:
        return super().score(x - x.mean(0))


class Gossiping(Honest):
    hard = Centred


class Undecided(Honest):
    def decisions(self, form: Any, inputs: tuple[Tensor, ...]) -> dict[str, Decision]:
        return {}


class Renaming(Honest):
    def decisions(self, form: Any, inputs: tuple[Tensor, ...]) -> dict[str, Decision]:
        return {f"{type(form).__name__}.{name}": value for name, value in super().decisions(form, inputs).items()}


class Reshaping(Honest):
    def decisions(self, form: Any, inputs: tuple[Tensor, ...]) -> dict[str, Decision]:
        best = super().decisions(form, inputs)["best"].value
        return {"best": Decision(best if isinstance(form, Soft) else best[:, None])}


class Excusing(Honest):
    """Calls every choice a tie, so that none could ever differ."""

    def decisions(self, form: Any, inputs: tuple[Tensor, ...]) -> dict[str, Decision]:
        return {name: Decision(item.value, np.zeros(item.value.shape)) for name, item in self.taken(form, inputs)}

    def taken(self, form: Any, inputs: tuple[Tensor, ...]) -> Any:
        return super().decisions(form, inputs).items()


class Unnumbered(Excusing):
    def decisions(self, form: Any, inputs: tuple[Tensor, ...]) -> dict[str, Decision]:
        return {
            name: Decision(item.value, np.full(item.value.shape, np.nan)) for name, item in self.taken(form, inputs)
        }


class Reciting(Honest):
    def decisions(self, form: Any, inputs: tuple[Tensor, ...]) -> dict[str, Decision]:
        return {"best": Decision(np.ones(len(inputs[0]), np.int64))}


_SCALES: weakref.WeakKeyDictionary[nn.Module, float] = weakref.WeakKeyDictionary()


class Tied(Soft):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * _SCALES.get(self, 1.0)


class Uncopied(Honest):
    """The soft form's answer hangs on the object itself."""

    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> Any:
        soft = Tied(model)
        _SCALES[soft] = 2.0
        return soft


class Untaught(Honest):
    """Deploys the weights that training started from."""

    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> Any:
        soft = Soft(model)
        soft.register_buffer("first", model.weight.detach().clone())  # type: ignore[operator]
        soft.register_buffer("bias", model.bias.detach().clone())  # type: ignore[operator]
        return soft

    def harden(self, soft: Any, inputs: tuple[Tensor, ...]) -> HardForm:
        return HardForm(Hard(soft.first, soft.bias))


class OtherFile(Honest):
    """Writes something else than the hard form, and nothing for TensorRT."""

    def harden(self, soft: Any, inputs: tuple[Tensor, ...]) -> HardForm:
        other = Hard(soft.layer.weight, soft.layer.bias + 0.1)
        lowerings = {"other": Lowering(other, targets=("onnxruntime",))}
        return HardForm(Hard(soft.layer.weight, soft.layer.bias), lowerings=lowerings)


class Heavy(Honest):
    promise = Promise(weight_bytes=20)


class Busy(Honest):
    promise = Promise(macs=11)


class Summed(Hard):
    def score(self, x: Tensor) -> Tensor:
        return torch.einsum("abi,bij->abj", x[:, None], self.weight[None])[:, 0] + self.bias


class WorstMark(Hard):
    def forward(self, x: Tensor) -> Tensor:
        y = self.score(x)
        return y + 0 * mark_decision(y.argmin(1), "best")[:, None].to(y.dtype)


class Mismarking(Honest):
    hard = WorstMark


class UnknownMark(Hard):
    def forward(self, x: Tensor) -> Tensor:
        y = self.score(x)
        return y + 0 * mark_decision(y.argmax(1), "winner")[:, None].to(y.dtype)


class Misnaming(Honest):
    hard = UnknownMark


class LostMark(Hard):
    def forward(self, x: Tensor) -> Tensor:
        y = self.score(x)
        mark_decision(y.argmax(1), "best")
        return y


class Forgetting(Honest):
    hard = LostMark


METHODS = [item for item in list(globals().values()) if isinstance(item, type) and issubclass(item, Honest)]

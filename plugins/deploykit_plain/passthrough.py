"""The identity among methods: the hard form is a copy of the trained model in eval mode."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from deploykit import FLOAT32, Decision, Decisions, HardForm, Method, Promise, Signature
from deploykit.lifecycle import binding_of
from deploykit.outputs import named_outputs
from deploykit.signature import Arrays


class Passthrough(Method[nn.Module]):
    """Any module: nothing is relaxed, so nothing is decided."""

    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> nn.Module:
        """Return the model itself."""
        return model

    def harden(self, soft: nn.Module, inputs: tuple[Tensor, ...]) -> HardForm:
        """Return a frozen copy."""
        module = copy.deepcopy(soft).eval().requires_grad_(False)
        return HardForm(module=module, promise=Promise(tolerance=FLOAT32))

    def decisions(self, form: nn.Module, inputs: tuple[Tensor, ...]) -> Decisions:
        """Return the largest entry of each output row, the only choice a plain model leads to."""
        with torch.no_grad():
            returned = form(*inputs)
        first = (returned if isinstance(returned, (tuple, list)) else (returned,))[0].flatten(1)
        best = first.topk(min(2, first.shape[1]), dim=1)
        margin = (best.values[:, 0] - best.values[:, -1]).numpy()
        return {"argmax": Decision(best.indices[:, 0].numpy(), margin)}

    def oracle(self, soft: nn.Module, inputs: tuple[Tensor, ...]) -> Arrays:
        """Return the model's own answer computed in float64: the reference for rounding, as nothing else changes."""
        module = copy.deepcopy(soft).eval().double()
        doubled = (tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)
        with torch.no_grad():
            outputs = named_outputs(module(*doubled), binding_of(soft).signature)
        dtypes = {spec.name: spec.dtype for spec in binding_of(soft).signature.outputs}
        return {name: tensor.numpy().astype(dtypes[name]) for name, tensor in outputs.items()}

"""From the soft form's graph to the hard form's: which values are needed as bits, which as floats.

Walking back from the outputs, each node learns in which form its users need it. A layer needed as bits alone becomes a
threshold on integers; where a float is needed too (a residual addition, an average pool) the layer gives floats, and
bits are taken of those.
"""

from __future__ import annotations

import copy
import operator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, fx, nn

from deploykit_binarized.biper_layers import (
    InputLayer,
    OutputLayer,
    TwinLayer,
    affine_after_sums,
    norm_terms,
    weight_steps,
)
from deploykit_binarized.biper_surgery import SoftNet, module_of
from deploykit_binarized.biper_thresholds import fold_to_threshold, integer_weight_of
from deploykit_binarized.integer_layers import (
    AffineLayer,
    BitPool,
    ChannelAffine,
    InputQuantizer,
    ScaledLayer,
    SignBits,
    ThresholdLayer,
)

_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d)
_SKIPPED: Final = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Identity)
_KEEPS_SIGN: Final = (nn.Hardtanh, nn.Tanh, nn.Softsign)
_SHAPE_CALLS: Final = {torch.flatten, torch.reshape, "flatten", "view", "reshape"}
_SIZE_CALLS: Final = {"size", getattr, operator.getitem}


@dataclass(frozen=True, slots=True)
class HardNet:
    """What folding gives.

    Attributes:
        module: the hard form's module: a graph of integer layers.
        float_steps: what is computed in float32 between integer layers; empty for an exact chain.
    """

    module: fx.GraphModule
    float_steps: tuple[str, ...]


def hard_net(soft: SoftNet, unsigned_code: bool) -> HardNet:
    """Build the hard form's module with bits in uint8 {0, 2} (``unsigned_code``) or int8 {-1, +1}."""
    return _Folding(soft.body, unsigned_code).result()


class _Folding:
    def __init__(self, body: fx.GraphModule, unsigned_code: bool) -> None:
        self.soft, self.unsigned = body, unsigned_code
        self.graph = fx.Graph()
        self.modules: dict[str, nn.Module | Tensor] = {}
        self.floats: dict[fx.Node, fx.Node] = {}
        self.bits: dict[fx.Node, fx.Node] = {}
        self.quantized: dict[tuple[fx.Node, Any], fx.Node] = {}
        self.float_steps: list[str] = []
        self.wants_float: set[fx.Node] = set()
        self.wants_bits: set[fx.Node] = set()
        for node in reversed(body.graph.nodes):
            self._demand(node)

    def result(self) -> HardNet:
        for node in self.soft.graph.nodes:
            if node.op == "output":
                self.graph.output(fx.node.map_arg(node.args[0], self._value))
                continue
            if node.op == "placeholder" or node in self.wants_float or self._is_size(node):
                self.floats[node] = self._float_node(node)
            if node in self.wants_bits:
                self.bits[node] = self._bits_node(node)
        self.graph.lint()
        return HardNet(fx.GraphModule(self.modules, self.graph, "IntegerNet"), tuple(self.float_steps))

    # -- what is needed of each node, from the outputs back ------------------------------------------------------

    def _demand(self, node: fx.Node) -> None:
        if self._is_size(node):
            return
        module = module_of(self.soft, node)
        if node.op != "output" and node not in self.wants_float and node not in self.wants_bits:
            if not any(self._is_size(user) for user in node.users):
                return
            self.wants_float.add(node)
        if isinstance(module, TwinLayer):
            wanted = self.wants_float if isinstance(module, InputLayer) else self.wants_bits
            wanted.add(node.all_input_nodes[0])
            return
        if node in self.wants_float or node.op == "output":
            layer = self._layer_before(node)
            self._demand_float_inputs(node if layer is None else layer[0])
        elif self._passes_bits(node):
            self.wants_bits.add(node.all_input_nodes[0])
        elif (layer := self._layer_before(node)) is not None:
            self._demand_float_inputs(layer[0])
        else:
            self.wants_float.add(node)
            self._demand_float_inputs(node)

    def _demand_float_inputs(self, node: fx.Node) -> None:
        # A layer that a normalisation folds into is not computed on its own: its input is what is needed.
        module = module_of(self.soft, node)
        if isinstance(module, TwinLayer):
            wanted = self.wants_float if isinstance(module, InputLayer) else self.wants_bits
            wanted.add(node.all_input_nodes[0])
            return
        self.wants_float.update(source for source in node.all_input_nodes if not self._is_size(source))

    def _is_size(self, node: fx.Node) -> bool:
        if node.op not in {"call_method", "call_function"} or node.target not in _SIZE_CALLS:
            return False
        if node.target is getattr:
            return node.args[1] == "shape"
        source = node.all_input_nodes[0]
        return node.target == "size" or self._is_size(source)

    def _passes_bits(self, node: fx.Node) -> bool:
        """Whether the sign of what the node returns depends on the signs it takes alone, in the same way."""
        module = module_of(self.soft, node)
        if isinstance(module, (*_SKIPPED, *_KEEPS_SIGN, nn.Flatten)):
            return not isinstance(module, nn.Hardtanh) or module.min_val < 0 <= module.max_val
        if isinstance(module, nn.MaxPool2d):
            return not module.ceil_mode and not module.return_indices and _pair(module.dilation) == [1, 1]
        return node.op in {"call_method", "call_function"} and node.target in _SHAPE_CALLS

    def _layer_before(self, node: fx.Node) -> tuple[fx.Node, TwinLayer] | None:
        """Return the layer whose output only this normalisation takes, so that both can be one."""
        if not isinstance(module_of(self.soft, node), _NORMS):
            return None
        source = node.all_input_nodes[0]
        layer = module_of(self.soft, source)
        if isinstance(layer, TwinLayer) and not isinstance(layer, OutputLayer) and len(source.users) == 1:
            return source, layer
        return None

    # -- the hard graph, forwards --------------------------------------------------------------------------------

    def _value(self, node: fx.Node) -> fx.Node:
        return self.floats[node]

    def _shaped(self, node: fx.Node) -> fx.Node:
        return self.floats[node] if node in self.floats else self.bits[node]

    def _call(self, module: nn.Module, name: str, source: fx.Node) -> fx.Node:
        while name in self.modules:
            name += "_"
        self.modules[name] = module
        return self.graph.call_module(name, (source,))

    def _float_node(self, node: fx.Node) -> fx.Node:
        if node.op == "placeholder":
            return self.graph.placeholder(str(node.target), default_value=node.args[0] if node.args else None)
        if self._is_size(node):
            return self.graph.node_copy(node, self._shaped)
        module, name = module_of(self.soft, node), node.name
        if isinstance(module, OutputLayer):
            return self._call(_scaled(module, self._zero()), name, self.bits[node.all_input_nodes[0]])
        if isinstance(module, _SKIPPED):
            return self.floats[node.all_input_nodes[0]]
        before = (node, module) if isinstance(module, TwinLayer) else self._layer_before(node)
        if not isinstance(module, nn.Flatten) and node.target not in {*_SHAPE_CALLS, "float"}:
            self.float_steps.append(name)
        if before is not None:
            source, layer = before
            norm = None if source is node else module
            affine = affine_after_sums(layer, norm)
            entry, zero = self._entry(source, layer)
            weight = integer_weight_of(layer)
            hard = AffineLayer(weight, affine, layer.window, zero, layer.path, not isinstance(layer, InputLayer))
            return self._call(hard, name, entry)
        if isinstance(module, _NORMS):
            gain, offset, mean = norm_terms(module)
            spatial = isinstance(module, nn.BatchNorm2d)
            return self._call(
                ChannelAffine(gain, offset - gain * mean, spatial), name, self.floats[node.all_input_nodes[0]]
            )
        copied = self.graph.node_copy(node, self._value)
        if module is not None:
            hard_module = copy.deepcopy(module).requires_grad_(False)
            self.modules[name] = hard_module
            copied.target = name
        elif node.op == "get_attr":
            self.modules[name] = _attribute(self.soft, str(node.target)).detach().clone()
            copied.target = name
        return copied

    def _bits_node(self, node: fx.Node) -> fx.Node:
        if node in self.floats:
            self.float_steps.append(f"sign of {node.name}")
            return self._call(SignBits(self.unsigned), f"{node.name}_bits", self.floats[node])
        module, name = module_of(self.soft, node), node.name
        if self._passes_bits(node):
            source = self.bits[node.all_input_nodes[0]]
            if isinstance(module, nn.MaxPool2d):
                sizes = (module.kernel_size, module.stride, module.padding)
                return self._call(BitPool(*(_pair(size) for size in sizes)), name, source)
            if isinstance(module, nn.Flatten):
                return self._call(nn.Flatten(module.start_dim, module.end_dim), name, source)
            return source if module is not None else self.graph.node_copy(node, self._shaped_bits)
        layer_node, layer = self._layer_before(node) or (node, module)
        assert isinstance(layer, TwinLayer)
        affine = affine_after_sums(layer, None if layer_node is node else module)
        entry, zero = self._entry(layer_node, layer)
        first = isinstance(layer, InputLayer)
        weight, bias = fold_to_threshold(integer_weight_of(layer), *affine, 128 if first else 1)
        hard = ThresholdLayer(weight, bias, layer.window, zero, layer.path, not first)
        return self._call(hard, name, entry)

    def _shaped_bits(self, node: fx.Node) -> fx.Node:
        return self.floats[node] if self._is_size(node) else self.bits[node]

    def _zero(self) -> int:
        return 1 if self.unsigned else 0

    def _entry(self, node: fx.Node, layer: TwinLayer) -> tuple[fx.Node, int]:
        source = node.all_input_nodes[0]
        if not isinstance(layer, InputLayer):
            return self.bits[source], self._zero()
        quantizer = InputQuantizer(layer.grid, self.unsigned)
        key = (source, layer.grid)
        if key not in self.quantized:
            self.quantized[key] = self._call(quantizer, f"{node.name}_input", self.floats[source])
        return self.quantized[key], quantizer.zero


def _scaled(layer: OutputLayer, zero: int) -> ScaledLayer:
    steps = weight_steps(layer.weight, layer.levels)
    return ScaledLayer(integer_weight_of(layer), layer.integer_bias(), steps, layer.window, layer.path, zero)


def _pair(size: int | tuple[int, ...]) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size)


def _attribute(root: nn.Module, path: str) -> Tensor:
    value: Tensor = operator.attrgetter(path)(root)
    return value

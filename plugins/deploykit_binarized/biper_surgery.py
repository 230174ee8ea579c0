"""From the user's model to the soft form: trace it, find its weight layers, put the twins in."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from deploykit.errors import ContractError
from deploykit.signature import Signature
from deploykit_binarized.biper_layers import BinaryLayer, Grid, InputLayer, OutputLayer, TwinLayer

_WHO: Final = "binarized.biper"
_RECTIFIERS: Final = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU)
_RECTIFIER_CALLS: Final = {
    torch.relu, torch.relu_, F.relu, F.relu_, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, "relu", "relu_",
}  # fmt: skip

_DROPOUT: Final = ("input", "p", "training", "inplace")
_MAX_POOL: Final = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")


class SoftNet(nn.Module):
    """The user's model with binary twins for layers; ``body`` is its traced graph."""

    def __init__(self, body: fx.GraphModule) -> None:
        super().__init__()
        self.body = body

    def forward(self, *inputs: Tensor) -> Any:
        """Return what the user's model returned."""
        return self.body(*inputs)


def soft_net(model: nn.Module, signature: Signature, example: tuple[Tensor, ...], frequency: float) -> SoftNet:
    """Trace a model and replace its layers.

    Raises:
        ContractError: it cannot be traced, has fewer than two weight layers, or one of them cannot be replaced.
    """
    body = _traced(model)
    _as_modules(body)
    for node in body.graph.nodes:
        _check_module(body, node)
    layers = [node for node in body.graph.nodes if isinstance(module_of(body, node), (nn.Conv2d, nn.Linear))]
    after = {node: any(other in _reachable(node) for other in layers) for node in layers}
    before = {node: any(node in _reachable(other) for other in layers) for node in layers}
    if not any(before.values()):
        raise ContractError(
            f"{_WHO}: {type(model).__name__} has {len(layers)} Conv2d or Linear layers in a row; wanted at least two, "
            "as the first one works on the input and is not binarized"
        )
    ranges = _ranges(body, signature, example, [node for node in layers if not before[node]])
    roles: dict[str, str] = {}
    for node in layers:
        path, layer = str(node.target), module_of(body, node)
        role = "input" if not before[node] else "binary" if after[node] else "output"
        if roles.setdefault(path, role) != role:
            raise ContractError(
                f"{_WHO}: layer {path!r} is called several times, as {roles[path]} and as {role} layer; use two layers"
            )
        if isinstance(layer, TwinLayer):
            continue
        _replace(body, path, _twin(layer, path, role, ranges.get(node), frequency))
    feeding = {node for node in body.graph.nodes if any(other in _reachable(node) for other in layers)}
    _soften_rectifiers(body, feeding)
    body.graph.lint()
    body.recompile()
    return SoftNet(body)


def module_of(body: nn.Module, node: fx.Node) -> nn.Module | None:
    """Return the module a node calls, or ``None``."""
    return body.get_submodule(str(node.target)) if node.op == "call_module" else None


def _traced(model: nn.Module) -> fx.GraphModule:
    try:
        return fx.symbolic_trace(model)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise ContractError(
            f"{_WHO}: {_culprit(model, error)} cannot be traced: {reason}. Wanted a forward whose path does not depend "
            "on tensor values; move such choices out of the model, or wrap the part with torch.fx.wrap"
        ) from error


def _culprit(model: nn.Module, error: Exception) -> str:
    # The innermost module whose code was running when tracing failed.
    paths = {id(module): path for path, module in model.named_modules()}
    culprit, trace = model, error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and id(owner) in paths:
            culprit = owner
        trace = trace.tb_next
    return f"{type(culprit).__name__} at {paths[id(culprit)]!r}"


def _check_module(body: fx.GraphModule, node: fx.Node) -> None:
    module = module_of(body, node)
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
        raise ContractError(
            f"{_WHO}: {node.target!r} keeps no running statistics, so a sample's output depends on its batch; "
            "wanted track_running_stats=True"
        )
    if node.op == "call_function" and node.target in {F.conv2d, F.linear}:
        raise ContractError(
            f"{_WHO}: node {node.name!r} calls {getattr(node.target, '__name__', node.target)} on bare tensors; "
            "wanted nn.Conv2d or nn.Linear modules, which can be replaced"
        )


def _as_modules(body: fx.GraphModule) -> None:
    # Functional pools and dropouts become modules: pools so that bits can take their place, dropouts because a traced
    # call has the training flag of the tracing moment frozen in.
    for node in list(body.graph.nodes):
        if node.op != "call_function" or node.target not in {F.dropout, F.max_pool2d}:
            continue
        names = _DROPOUT if node.target is F.dropout else _MAX_POOL
        given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
        source = given.pop("input")
        given.pop("training", None)
        if any(isinstance(value, fx.Node) for value in given.values()):
            continue
        module: nn.Module = nn.Dropout(**given) if node.target is F.dropout else nn.MaxPool2d(**given)
        body.add_submodule(f"module_{node.name}", module)
        node.op, node.target, node.args, node.kwargs = "call_module", f"module_{node.name}", (source,), {}


def _reachable(node: fx.Node) -> set[fx.Node]:
    seen: set[fx.Node] = set()
    waiting = list(node.users)
    while waiting:
        user = waiting.pop()
        if user not in seen:
            seen.add(user)
            waiting.extend(user.users)
    return seen


def _twin(
    layer: nn.Module | None, path: str, role: str, extent: tuple[float, float] | None, frequency: float
) -> TwinLayer:
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    if extent is not None:
        return InputLayer(layer, path, Grid.over(*extent))
    return BinaryLayer(layer, path, frequency) if role == "binary" else OutputLayer(layer, path)


def _replace(body: fx.GraphModule, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(body.get_submodule(parent), name, module)


def _soften_rectifiers(body: fx.GraphModule, feeding: set[fx.Node]) -> None:
    # A rectified value is never negative, so its sign would be constant; hardtanh keeps the sign.
    for node in body.graph.nodes:
        called = module_of(body, node)
        rectifies = isinstance(called, _RECTIFIERS) or (
            node.op in {"call_function", "call_method"} and node.target in _RECTIFIER_CALLS
        )
        if rectifies and node in feeding:
            name = f"hardtanh_{node.name}"
            body.add_submodule(name, nn.Hardtanh())
            node.op, node.target, node.args, node.kwargs = "call_module", name, (node.all_input_nodes[0],), {}
    body.delete_all_unused_submodules()


class _InputRecorder(fx.Interpreter):
    """Runs a graph and notes the values that some nodes take."""

    def __init__(self, body: fx.GraphModule, layers: list[fx.Node]) -> None:
        super().__init__(body)
        self.layers = layers
        self.extents: dict[fx.Node, tuple[float, float]] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n in self.layers:
            source = self.env[n.args[0]].float()  # type: ignore[index]
            self.extents[n] = (float(source.min()), float(source.max()))
        return super().run_node(n)


def _ranges(
    body: fx.GraphModule, signature: Signature, example: tuple[Tensor, ...], first: list[fx.Node]
) -> dict[fx.Node, tuple[float, float]]:
    # The signature's range where a layer takes an input as it is; else what the example shows.
    training = body.training
    recorder = _InputRecorder(body.eval(), first)
    with torch.no_grad():
        recorder.run(*example)
    body.train(training)
    extents = recorder.extents
    specs = dict(zip(_placeholders(body), signature.inputs, strict=False))
    for node in first:
        source = node.args[0]
        while isinstance(source, fx.Node) and _keeps_values(body, source):
            source = source.args[0]
        spec = specs.get(source) if isinstance(source, fx.Node) else None
        if spec is not None and spec.minimum is not None and spec.maximum is not None:
            extents[node] = (spec.minimum, spec.maximum)
        elif spec is not None and spec.dtype == "uint8":
            extents[node] = (0.0, 255.0)
    return extents


def _keeps_values(body: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(module_of(body, node), (nn.Flatten, nn.Identity)) or node.target in {"float", "flatten"}


def _placeholders(body: fx.GraphModule) -> list[fx.Node]:
    return [node for node in body.graph.nodes if node.op == "placeholder"]

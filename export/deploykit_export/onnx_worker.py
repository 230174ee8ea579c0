"""The exporting process: translate traced programs to ONNX, check them and try them in ONNX Runtime.

Run as ``python -m deploykit_export.onnx_worker job.json``; see :mod:`deploykit_export.onnx_model`.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import onnx
import onnx_ir
import onnxruntime
import torch

from deploykit.decision_marks import OPERATOR
from deploykit.decision_names import VALUE_PREFIX
from deploykit.signature import Signature
from deploykit_export.graph_facts import operator_histogram, walk_nodes

_MARKS: Final = "deploykit.marks"
_SLOW: Final = {
    "ConvInteger": "3.5 times slower than fp32 Conv; write QLinearConv with uint8 activations",
    "DynamicQuantizeLinear": "quantises activations anew for every call; write fixed scales",
}


class _FaultError(Exception):
    """Something to tell the user in one sentence."""


def main(path: Path) -> None:
    """Do the job described in the file at ``path`` and write the report beside it."""
    job = json.loads(path.read_text())
    report: dict[str, Any] = {"models": {}}
    signature = Signature.model_validate(job["signature"])
    _register_mark_schema()
    for item in job["jobs"]:
        try:
            report["models"][item["name"]] = _write(item, signature, job["metadata"])
        except _FaultError as fault:
            report["error"] = f"lowering {item['name']!r}: {fault}"
            break
        except Exception as error:
            report["error"] = f"lowering {item['name']!r}: {_reason(error)}"
            break
    (path.parent / "report.json").write_text(json.dumps(report))


def _write(item: Mapping[str, Any], signature: Signature, metadata: Mapping[str, str]) -> dict[str, Any]:
    # Translations first: importing their module registers the operators that the program refers to.
    table: dict[Any, Callable[..., Any]] = {OPERATOR: _translate_mark}
    opset: int | None = None  # torch's default
    if item["translations"]:
        name, _, function = item["translations"].partition(":")
        module = importlib.import_module(name)
        table |= getattr(module, function)()
        opset = getattr(module, "OPSET", None)  # for operators newer than the default, such as blockwise int4
    program = torch.export.load(item["program"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(
            program,
            dynamo=True,
            custom_translation_table=table,
            opset_version=opset,
            input_names=[spec.name for spec in signature.inputs],
            output_names=[spec.name for spec in signature.outputs],
            external_data=False,
            verbose=False,
        )
    if exported is None:
        raise _FaultError("torch.onnx.export returned nothing")
    _name_dimensions(exported.model, signature)
    _resolve_marks(exported.model)
    _forget_sources(exported.model)
    exported.model.metadata_props.update({**metadata, "deploykit.lowering": item["name"]})
    exported.model.producer_name = "deploykit"
    proto = onnx_ir.to_proto(exported.model)
    onnx.checker.check_model(proto, full_check=True)
    Path(item["model"]).write_bytes(proto.SerializeToString())
    optimized = _optimized(proto)
    return {"operators": operator_histogram(proto), "optimized_operators": operator_histogram(optimized)}


def _translate_mark(value: Any, name: str) -> Any:
    import onnxscript

    return onnxscript.values.Opset(_MARKS, 1).Decision(value, name=name)


def _register_mark_schema() -> None:
    # A schema of our own keeps onnxscript's optimiser from removing the mark as it would an Identity.
    schema = onnx.defs.OpSchema
    onnx.defs.register_schema(
        schema(
            "Decision", _MARKS, 1,
            inputs=[schema.FormalParameter("value", "T")],
            outputs=[schema.FormalParameter("same", "T")],
            type_constraints=[("T", [f"tensor({kind})" for kind in _KINDS], "choices")],
            attributes=[schema.Attribute("name", schema.AttrType.STRING, "the decision's name", required=True)],
        )
    )  # fmt: skip


_KINDS: Final = ("bool", "uint8", "int8", "int32", "int64", "float")


def _resolve_marks(model: onnx_ir.Model) -> None:
    outputs = set(model.graph.outputs)
    for node in onnx_ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain == _MARKS:
            name = node.attributes["name"].as_string()
            node.domain, node.op_type = "", "Identity"
            node.attributes.clear()
            if node.outputs[0] not in outputs:
                node.outputs[0].name = VALUE_PREFIX + name
    model.opset_imports.pop(_MARKS, None)


def _name_dimensions(model: onnx_ir.Model, signature: Signature) -> None:
    # torch.export.save forgets the names of dimensions; the signature knows them.
    names: dict[str, str] = {}
    for value, spec in zip(model.graph.inputs, signature.inputs, strict=True):
        for axis, size in enumerate(spec.shape):
            dim = value.shape[axis] if value.shape is not None else None
            if isinstance(size, str) and isinstance(dim, onnx_ir.SymbolicDim) and dim.value is not None:
                names[str(dim.value)] = size
    values = [*model.graph.inputs, *(out for node in model.graph for out in node.outputs)]
    for value in values:
        if value.shape is None:
            continue
        value.shape = onnx_ir.Shape(
            [names.get(str(dim.value), dim.value) if isinstance(dim, onnx_ir.SymbolicDim) else dim
             for dim in value.shape]
        )  # fmt: skip


def _forget_sources(model: onnx_ir.Model) -> None:
    # torch notes stack traces, with the author's paths, on every node and value.
    for node in onnx_ir.traversal.RecursiveGraphIterator(model.graph):
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.metadata_props.clear()


def _optimized(proto: onnx.ModelProto) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(path)
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
        onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        optimized = onnx.load(path)
    for node in walk_nodes(optimized.graph):
        if advice := _SLOW.get(node.op_type):
            raise _FaultError(f"ONNX Runtime would run {node.op_type} ({node.name}): {advice}")
        if node.op_type == "QLinearConv" and _signed_activations(node, optimized):
            raise _FaultError(f"QLinearConv {node.name} has int8 activations: 13 times slower than uint8 ones")
    return optimized


def _signed_activations(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    zero = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return zero.get(node.input[2]) == onnx.TensorProto.INT8


def _reason(error: BaseException) -> str:
    # The exporter wraps the cause several times over; the innermost one is what the user can act on.
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None and inner not in chain:
        chain.append(inner)
    outer = str(error).strip().splitlines()
    texts = [f"{type(chain[-1]).__name__}: {str(chain[-1]).strip()[:600]}"]
    if len(chain) > 1 and outer:
        texts.append(f"({outer[0][:200]})")
    return " ".join(texts)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

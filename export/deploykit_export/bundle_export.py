"""Hard form to bundle: every lowering and the float baseline as files, samples, weights and a model card."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from deploykit.bundle import SUFFIX, Bundle
from deploykit.bundle_writer import write_bundle
from deploykit.errors import ExportError
from deploykit.hard_form import HardForm, Lowering
from deploykit.lifecycle import binding_of
from deploykit.manifest import Manifest, VariantEntry
from deploykit.outputs import named_outputs
from deploykit.signature import Arrays
from deploykit.task import Samples
from deploykit_export.form_proofs import promise_entry
from deploykit_export.heldout import CALIBRATION, HELDOUT, choose, pack
from deploykit_export.model_card import model_card
from deploykit_export.onnx_model import write_onnx
from deploykit_export.soft_weights import SOFT_WEIGHTS, own_network, weights_to_bytes
from deploykit_export.toolchain import toolchain

BASELINE: Final = "float"
_HELDOUT_AT_MOST: Final = 64


def export_bundle(
    soft: nn.Module,
    hard: HardForm,
    path: Path,
    *,
    task: str = "",
    network: str = "",
    calibration: tuple[Tensor, ...] | None = None,
    heldout: Samples | None = None,
    timeout: float = 300.0,
) -> Bundle:
    """Write a bundle for a hard form and publish it in one step.

    Args:
        soft: the trained soft form ``hard`` was made from; its weights travel along so that ``verify`` can repeat
            the whole way.
        path: the bundle's folder, ending in ``.bundle``; an existing bundle there is replaced when all is written.
        task: name of the task it was trained on, so that ``verify`` can measure its metric.
        network: which of the task's networks, or ``package.module:function`` that makes the user's own. Without a task
            it is what lets ``verify`` make both forms again; without both the file is compared with recorded answers.
        calibration: what ``hard`` was calibrated with; the example by default.
        heldout: samples that were not trained on; the example by default. Up to 64, chosen to take different
            decisions, go into the bundle with the hard form's answers.
        timeout: seconds for the exporting process.

    Raises:
        ConfigError: ``network`` leads to no function that makes a module.
        ExportError: a file could not be written; nothing is published.
        BundleError: the bundle could not be put in place; the old one is whole.
    """
    binding = binding_of(soft)
    method, signature = binding.method, binding.signature
    if ":" in network:
        own_network(network)  # a name that leads nowhere would be found out only by who verifies the bundle
    if path.suffix != SUFFIX:
        raise ExportError(f"a bundle's folder must end in {SUFFIX!r}, got {path.name!r}")
    lowerings = _lowerings(hard) | {BASELINE: _baseline(method.baseline(soft))}
    metadata = {
        "deploykit.method": method.card.name,
        "deploykit.config": method.config.model_dump_json(),
        "deploykit.signature": signature.model_dump_json(),
    }
    models = write_onnx(lowerings, signature, binding.example, metadata=metadata, timeout=timeout)
    files = {f"models/{name}.onnx": model.data for name, model in models.items()}
    files[HELDOUT] = pack(_heldout_groups(soft, hard, heldout))
    calibrated = binding.example if calibration is None else calibration
    files[CALIBRATION] = pack({"input": _by_name(calibrated, soft)})
    files[SOFT_WEIGHTS] = weights_to_bytes(soft)
    operators = {name: dict(model.operators) for name, model in models.items()}
    optimized = {name: dict(model.optimized_operators) for name, model in models.items()}
    files["proofs/export.json"] = _json({"operators": operators, "optimized_operators": optimized})
    fields: dict[str, Any] = {
        "name": path.name.removesuffix(SUFFIX),
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "method": method.card.name,
        "config": method.config.model_dump(mode="json"),
        "task": task,
        "network": network,
        "signature": signature,
        "decoder": hard.decoder,
        "decoder_config": dict(hard.decoder_config),
        "variants": tuple(_variant(name, lowering) for name, lowering in lowerings.items()),
        "promise": promise_entry(hard.promise),
        "facts": dict(hard.facts),
        "toolchain": toolchain(),
    }
    paper = method.card.paper
    source = (
        ""
        if paper is None
        else f"Source: {paper.title} ({paper.year}{', ' + paper.reference if paper.reference else ''})."
    )
    preview = Manifest.model_validate(
        {**fields, "files": {name: {"size": len(data), "sha256": "0" * 64} for name, data in files.items()}}
    )
    files["README.md"] = model_card(preview, summary=method.card.summary, source=source, operators=operators).encode()
    return write_bundle(path, fields, files)


def _lowerings(hard: HardForm) -> dict[str, Lowering]:
    if BASELINE in hard.lowerings:
        raise ExportError(f"a lowering may not be called {BASELINE!r}: that is the baseline's name")
    return {
        name: lowering
        if lowering.module is not None
        else Lowering(
            hard.module, lowering.translations, lowering.targets, lowering.purpose, lowering.dynamic_batch
        )
        for name, lowering in hard.lowerings.items()
    }  # fmt: skip


def _baseline(network: nn.Module) -> Lowering:
    module = copy.deepcopy(network).eval().requires_grad_(False)
    return Lowering(module=module, purpose="the float model that the hard form replaces")


def _heldout_groups(soft: nn.Module, hard: HardForm, heldout: Samples | None) -> dict[str, Arrays]:
    binding = binding_of(soft)
    if heldout is None:
        chosen = Samples(inputs=_by_name(binding.example, soft), targets={})
    else:
        few = heldout.take(slice(0, 8 * _HELDOUT_AT_MOST))
        inputs = tuple(torch.from_numpy(few.inputs[spec.name].copy()) for spec in binding.signature.inputs)
        decisions = binding.method.decisions(hard.module, inputs)
        chosen = few.take(choose(decisions, len(few), _HELDOUT_AT_MOST))
    inputs = tuple(torch.from_numpy(chosen.inputs[spec.name].copy()) for spec in binding.signature.inputs)
    with torch.no_grad():
        outputs = named_outputs(hard.module(*inputs), binding.signature)
    answers = {name: tensor.numpy() for name, tensor in outputs.items()}
    return {"input": chosen.inputs, "target": chosen.targets, "output": answers}


def _by_name(inputs: tuple[Tensor, ...], soft: nn.Module) -> Arrays:
    specs = binding_of(soft).signature.inputs
    return {spec.name: tensor.detach().cpu().numpy() for spec, tensor in zip(specs, inputs, strict=True)}


def _variant(name: str, lowering: Lowering) -> VariantEntry:
    return VariantEntry(
        name=name,
        role="baseline" if name == BASELINE else "hard",
        file=f"models/{name}.onnx",
        targets=lowering.targets,
        purpose=lowering.purpose,
        dynamic_batch=lowering.dynamic_batch,
    )


def _json(content: object) -> bytes:
    return json.dumps(content, indent=2, sort_keys=True).encode() + b"\n"

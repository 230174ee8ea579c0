"""The README that goes into every bundle."""

from __future__ import annotations

from collections.abc import Mapping

from deploykit.manifest import Manifest


def model_card(manifest: Manifest, *, summary: str, source: str, operators: Mapping[str, Mapping[str, int]]) -> str:
    """Return the model card as Markdown: what it is, what it takes and gives, how it was made and can be run."""
    tensors = [f"- in: `{spec.text()}` {spec.description}".rstrip() for spec in manifest.signature.inputs]
    tensors += [f"- out: `{spec.text()}` {spec.description}".rstrip() for spec in manifest.signature.outputs]
    rows = [
        f"| {variant.name} | {variant.role} | {manifest.files[variant.file].size:,} | {', '.join(variant.targets)} | "
        f"{variant.purpose} |"
        for variant in manifest.variants
    ]
    settings = ", ".join(f"{key}={value}" for key, value in manifest.config.items()) or "none"
    facts = [f"- {key}: {value}" for key, value in manifest.facts.items()]
    histograms = [
        f"- `{name}`: " + ", ".join(f"{operator} {count}" for operator, count in histogram.items())
        for name, histogram in operators.items()
    ]
    tools = ", ".join(f"{tool} {version}" for tool, version in manifest.toolchain.items())
    lines = [
        f"# {manifest.name}", "",
        f"Method `{manifest.method}`: {summary}", "",
        *([source, ""] if source else []),
        f"Settings: {settings}. Task: {manifest.task or 'none given'}. Written {manifest.created} with {tools}.", "",
        "## Tensors", "", *tensors, "",
        *([f"Raw outputs go through the decoder `{manifest.decoder}` on request.", ""] if manifest.decoder else []),
        "## Variants", "", "| name | role | bytes | runs on | purpose |", "|---|---|--:|---|---|", *rows, "",
        *(["## Facts", "", *facts, ""] if facts else []),
        "## Operators", "", *histograms, "",
        "## Use", "", "```sh", f"deploykit verify {manifest.name}.bundle", f"deploykit serve {manifest.name}.bundle",
        "```", "",
    ]  # fmt: skip
    return "\n".join(lines)

"""``deploykit weights``: where the bytes of a bundle's files are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def weights(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    largest: Annotated[int, typer.Option(min=1, help="How many tensors to show of each file.")] = 5,
) -> None:
    """Show the largest tensors of every variant of a bundle.

    Example: deploykit weights bundles/gate.bundle --largest 3
    """
    # Here and not above: the command line loads this file at every start.
    import onnx

    from deploykit import open_bundle

    opened = open_bundle(bundle)
    for variant in opened.manifest.variants:
        model = onnx.load_from_string(opened.read(variant.file))
        tensors = sorted(model.graph.initializer, key=lambda tensor: -tensor.ByteSize())
        typer.echo(f"{variant.name}: {opened.manifest.files[variant.file].size:,} bytes, {len(tensors)} tensors")
        for tensor in tensors[:largest]:
            kind = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
            typer.echo(f"  {tensor.ByteSize():>10,}  {kind}{list(tensor.dims)}  {tensor.name}")

"""A model as a C header."""

from __future__ import annotations

import re

from deploykit import Signature, Target, Written

_PER_LINE = 16


class CHeader(Target):
    """One array of bytes and its length, under the variant's name, to be compiled into a program."""

    def write(self, variant: str, model: bytes, signature: Signature) -> Written:
        """Write ``VARIANT.h``."""
        name = re.sub(r"\W", "_", variant)
        rows = [model[start : start + _PER_LINE] for start in range(0, len(model), _PER_LINE)]
        body = ",\n".join("  " + ", ".join(f"0x{byte:02x}" for byte in row) for row in rows)
        tensors = "\n".join(f" *   {spec.text()}" for spec in (*signature.inputs, *signature.outputs))
        text = (
            f"/* {variant}, an ONNX model:\n{tensors}\n */\n#pragma once\n\n"
            f"static const unsigned char {name}_onnx[] = {{\n{body}\n}};\n"
            f"static const unsigned long {name}_onnx_length = {len(model)};\n"
        )
        return Written({f"{variant}.h": text.encode()}, {"model bytes": len(model)})

"""The public face is a list, and looking at it costs nothing."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(
    item.parent.name
    for folder in (ROOT, ROOT / "export", ROOT / "serving", ROOT / "plugins")
    for item in folder.glob("deploykit*/__init__.py")
)
HEAVY = ("torch", "onnx", "onnxruntime", "onnxscript", "bentoml", "lightning_fabric", "sklearn", "scipy", "cv2")


def order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, as ruff sorts ``__all__``."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("package", PACKAGES)
def test_the_public_names_are_sorted_and_there(package: str) -> None:
    module = importlib.import_module(package)
    names = module.__all__
    assert names == sorted(set(names), key=order)
    for name in names:
        assert getattr(module, name) is not None
        assert not name.startswith("_")


def test_an_unknown_name_is_an_attribute_error() -> None:
    import deploykit

    with pytest.raises(AttributeError, match="module 'deploykit' has no attribute 'Metod'"):
        deploykit.Metod  # noqa: B018
    assert set(dir(deploykit)) == set(deploykit.__all__)


@pytest.mark.parametrize(
    ("code", "further"),
    [
        ("import deploykit", ("pydantic", "numpy")),
        ("import deploykit, deploykit_serving", ("pydantic",)),
        ("import deploykit; deploykit.installed().methods", ()),
        ("from deploykit import open_bundle, Signature, Method, Task, Decoder, HardForm, Promise", ()),
        ("import deploykit.cli.main", ("numpy", "pydantic")),
    ],
)
def test_looking_imports_nothing_heavy(code: str, further: tuple[str, ...]) -> None:
    program = f"{code}\nimport sys\nprint(sorted({set(HEAVY + further)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

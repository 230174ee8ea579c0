"""The promises of a target, as tests: what export writes beside ONNX."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from deploykit.bundle import SUFFIX
from deploykit.bundle_writer import write_bundle
from deploykit.errors import ContractError, ExportError
from deploykit.making import make_target
from deploykit.signature import Signature
from deploykit.target import Target
from deploykit.testing.exported import exported
from deploykit.testing.small_models import SmallModel, small_models


class TargetContract:
    """Subclass it in a test file and set ``name``.

    Attributes:
        name: the target's registered name.
        deterministic: false if the same model may give other bytes every time, as builders that measure do.
        method: also write the files of this method's specimen; none if empty.
    """

    name: ClassVar[str]
    deterministic: ClassVar[bool] = True
    method: ClassVar[str] = ""

    def target(self) -> Target:
        """Return the target, made anew; skips the test where it cannot write on this machine."""
        made = make_target(self.name)
        if reason := made.missing():
            pytest.skip(f"target {self.name!r}: {reason}")
        return made

    def models(self) -> Iterable[SmallModel]:
        """Return what is written: three small models, and the files of :attr:`method`."""
        yield from small_models()
        if self.method:
            written = exported(self.method, "", {})
            signature = written.made.task.signature
            for name, lowering in written.made.hard.lowerings.items():
                if self.target().starts_from in lowering.targets:
                    yield SmallModel(f"{self.method}-{name}", written.files[name], signature)

    def test_it_says_what_it_misses(self) -> None:
        """Empty where it can write, else the reason in words; asking twice changes nothing."""
        made = make_target(self.name)
        reasons = [made.missing(), made.missing()]
        assert all(isinstance(reason, str) for reason in reasons), (
            f"{self.name}: missing() returned {reasons[0]!r}; wanted text, empty if nothing is missing"
        )
        assert reasons[0] == reasons[1], f"{self.name}: missing() says {reasons[0]!r} and then {reasons[1]!r}"

    def test_it_writes_files_into_a_bundle(self) -> None:
        """Every model gives at least one file that is not empty, named so that a bundle can hold it."""
        target = self.target()
        for model in self.models():
            files = self._written(target, model.name, model.data, model.signature)
            empty = sorted(name for name, data in files.items() if not data)
            assert not empty, f"{self.name}: model {model.name!r}: {empty[0]!r} is empty"

    def test_the_same_model_gives_the_same_files(self) -> None:
        """Names are the same every time, and so are bytes unless the test says that they are not."""
        for model in self.models():
            one, two = (
                self._written(self.target(), model.name, model.data, model.signature) for _ in range(2)
            )  # fmt: skip
            assert set(one) == set(two), f"{self.name}: model {model.name!r} gives {sorted(one)}, then {sorted(two)}"
            if self.deterministic:
                other = [name for name, data in one.items() if data != two[name]]
                assert not other, (
                    f"{self.name}: {other[0]!r} of model {model.name!r} has other bytes the second time; take out "
                    "times and chance, or set deterministic = False in its test"
                )

    def test_it_refuses_what_is_no_model(self) -> None:
        """Garbage leads to an ExportError in words, not to a file and not to another exception."""
        target = self.target()
        signature = next(iter(small_models())).signature
        for what, data in (
            ("nothing", b""),
            ("text", b"this is no model"),
            ("a torn file", small_models()[0].data[:40]),
        ):
            said = ""
            try:
                target.write("onnx", data, signature)
            except ExportError as error:
                said = str(error).strip()
            except Exception as error:
                raise AssertionError(
                    f"{self.name}: {what} in place of a model leads to {type(error).__name__}: {error}; raise "
                    "ExportError"
                ) from error
            assert said, f"{self.name}: takes {what} for a model, or refuses it without a word; raise ExportError"

    def _written(self, target: Target, variant: str, model: bytes, signature: Signature) -> Mapping[str, bytes]:
        """Let export add the target to a bundle of one model, with all its checks, and return what is then there."""
        from deploykit_export.bundle_targets import add_target, target_folder

        with tempfile.TemporaryDirectory(prefix="deploykit-target-") as folder:
            name = variant.replace(".", "-")
            fields = {
                "name": name, "created": "2026-01-01T00:00:00Z", "method": "contract.target", "signature": signature,
                "variants": [{"name": name, "file": f"models/{name}.onnx", "targets": [target.starts_from]}],
            }  # fmt: skip
            bundle = write_bundle(Path(folder) / f"{name}{SUFFIX}", fields, {f"models/{name}.onnx": model})
            try:
                added = add_target(bundle, target)
            except (ContractError, ExportError) as error:
                raise AssertionError(f"{self.name}: model {variant!r}: {error}") from error
            where = target_folder(self.name)
            return {file.removeprefix(f"{where}/"): added.read(file) for file in added.names(where)}

from __future__ import annotations

from pathlib import Path

import pytest

from deploykit_serving.profiling.energy import energy


def _package(root: Path, name: str, spent: int, most: int = 262_143_328_850) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "energy_uj").write_text(f"{spent}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder


def _takes(folder: Path, microjoules: int, most: int = 262_143_328_850):  # type: ignore[no-untyped-def]
    """A call on a machine whose counter moves by so much at each."""

    def call() -> None:
        now = int((folder / "energy_uj").read_text())
        (folder / "energy_uj").write_text(str((now + microjoules) % most))

    return call


def test_joules_a_call_are_those_the_counter_moved_by(tmp_path: Path) -> None:
    folder = _package(tmp_path, "intel-rapl:0", 5_000)
    found = energy(_takes(folder, 2_500_000), seconds=0.01, root=tmp_path)
    assert found.joules == pytest.approx(2.5)
    assert found.source == "RAPL, 1 package, everything that runs on them included"


def test_packages_add_up_and_their_parts_are_not_counted_twice(tmp_path: Path) -> None:
    first = _package(tmp_path, "intel-rapl:0", 0)
    second = _package(tmp_path, "intel-rapl:1", 0)
    part = _package(tmp_path, "intel-rapl:0:0", 0)
    calls = [_takes(first, 1_000_000), _takes(second, 500_000), _takes(part, 900_000)]
    found = energy(lambda: [call() for call in calls], seconds=0.01, root=tmp_path)
    assert found.joules == pytest.approx(1.5)
    assert "2 packages" in found.source


def test_a_counter_that_wraps_around_goes_on(tmp_path: Path) -> None:
    folder = _package(tmp_path, "intel-rapl:0", 999_999, most=1_000_000)
    # One turn at the most can be seen between two readings: ten calls of 0.05 J.
    call = _takes(folder, 50_000, most=1_000_000)
    made: list[None] = []

    def ten_calls() -> None:
        made.append(None)
        if len(made) <= 10:
            call()

    found = energy(ten_calls, seconds=1e-9, root=tmp_path)
    assert found.joules == pytest.approx(0.05)


def test_a_counter_that_stands_still_is_none(tmp_path: Path) -> None:
    _package(tmp_path, "intel-rapl:0", 7)
    found = energy(lambda: None, seconds=0.01, root=tmp_path)
    assert found.joules is None
    assert "did not move in 0.01 s" in found.source


def test_no_counter_says_why(tmp_path: Path) -> None:
    assert energy(lambda: None, root=tmp_path / "none").joules is None
    assert "shows no RAPL package under none" in energy(lambda: None, root=tmp_path / "none").source
    (tmp_path / "intel-rapl:0").mkdir()
    assert "RAPL cannot be read (FileNotFoundError)" in energy(lambda: None, root=tmp_path).source


def test_a_counter_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _package(tmp_path, "intel-rapl:0", 7)
    (folder / "energy_uj").chmod(0)
    read = Path.read_text

    def as_user(self: Path, *rest: object, **named: object) -> str:
        # Who runs tests as root may read everything; the kernel gives this error to everybody else.
        if self == folder / "energy_uj":
            raise PermissionError(13, "Permission denied", str(self))
        return read(self, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", as_user)
    assert "may not be read; give read access to energy_uj" in energy(lambda: None, root=tmp_path).source


def test_a_gpu_is_read_through_nvml_or_says_why_not() -> None:
    found = energy(lambda: None, seconds=0.01, device="gpu")
    assert found.source.startswith(("NVML, the whole first device", "no counter: "))
    assert (found.joules is None) or found.joules > 0


def test_no_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seconds above 0, got 0"):
        energy(lambda: None, seconds=0.0, root=tmp_path)

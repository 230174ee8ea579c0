"""One page over several bundles, for all tests that only look at it."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploykit_export.proof_report import Proof
from deploykit_serving.report.writing import Report, make_report
from tests.serving.report.written import HOST, write_reported

NASTY = '<script>alert("x")</script>\'&$x_1$'


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three bundles: one with everything and ugly texts, one faster and less accurate, one with nothing."""
    home = tmp_path_factory.mktemp("reported")
    write_reported(
        home / "first.bundle",
        facts={NASTY: NASTY},
        config={"width": NASTY},
        toolchain={"made": NASTY},
        proof_changes={"proofs": (Proof(name=NASTY, status="failed", detail=NASTY),), "lost_at": NASTY},
    )
    write_reported(home / "second.bundle", median_ms=0.1, metric=0.96)
    write_reported(home / "bare.bundle", proven=False, profiled=False)
    return home


@pytest.fixture(scope="session")
def made(folder: Path) -> Report:
    return make_report([folder], host_id=HOST.id, command=f"deploykit report {NASTY}", created="2026-01-03T00:00:00Z")


@pytest.fixture(scope="session")
def page_file(made: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(made.page)
    return path

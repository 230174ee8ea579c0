from __future__ import annotations

import getpass
import os
import platform
import socket
from pathlib import Path

from deploykit_serving.profiling.host import cpu_quota, fingerprint
from deploykit_serving.profiling.schema import Host


def test_fingerprint_tells_the_machine_but_not_whose_it_is() -> None:
    host = fingerprint()
    text = host.model_dump_json()
    for secret in {socket.gethostname(), platform.node(), str(Path.home()), str(Path.cwd()), getpass.getuser()}:
        # A name like "linux" or "root" could be part of an ordinary word; a whole value it must never be.
        assert f'"{secret}"' not in text
        if len(secret) > 5:
            assert secret not in text
    assert "/" not in text
    assert host.cores == os.cpu_count()
    assert 1 <= host.usable_cores <= host.cores
    assert host.python == platform.python_version()
    assert host.onnxruntime.startswith("onnxruntime")
    assert host.memory_gib > 0


def test_id_is_stable_while_the_load_is_not() -> None:
    hosts = [fingerprint() for _ in range(3)]
    assert len({host.id for host in hosts}) == 1


def test_id_changes_with_what_matters(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    before = fingerprint()
    monkeypatch.setattr(os, "getloadavg", lambda: (77.0, 0.0, 0.0))
    busy = fingerprint()
    assert busy.load == 77.0
    assert busy.id == before.id
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    assert fingerprint().id != before.id


def test_fingerprint_survives_json() -> None:
    host = fingerprint()
    assert Host.model_validate_json(host.model_dump_json()) == host


def test_quota_is_the_tightest_on_the_way_up(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/pod/container\n")
    (tmp_path / "v2/pod/container").mkdir(parents=True)
    (tmp_path / "v2/pod/container/cpu.max").write_text("max 100000\n")
    assert cpu_quota(tmp_path / "v2", own) is None
    (tmp_path / "v2/pod/cpu.max").write_text("150000 100000\n")
    assert cpu_quota(tmp_path / "v2", own) == 1.5
    (tmp_path / "v2/pod/container/cpu.max").write_text("50000 100000\n")
    assert cpu_quota(tmp_path / "v2", own) == 0.5


def test_quota_of_the_older_control_groups(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("3:cpu,cpuacct:/job\n4:memory:/job\n")
    folder = tmp_path / "v1/cpu/job"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert cpu_quota(tmp_path / "v1", own) is None
    (folder / "cpu.cfs_quota_us").write_text("250000\n")
    assert cpu_quota(tmp_path / "v1", own) == 2.5


def test_no_control_groups_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path, tmp_path / "missing") is None

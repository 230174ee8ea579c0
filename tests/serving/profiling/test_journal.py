from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit.errors import BundleError
from deploykit_serving.profiling.journal import Journal, Record, journal_file, opened_journal
from deploykit_serving.profiling.schema import Memory

HOST = "0123456789ab"
RECORDS = (
    Record(unit="a", name="hard@x/1", memory=Memory(loaded_mib=1.5, peak_mib=2.0)),
    Record(unit="a", name="hard@x/1", ended=True, failure="crashed with SIGSEGV\nwhile measuring"),
    Record(unit="b", name="float@x/1", overhead_ns=80.0),
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tmp_path / "some.bundle"


def _written(bundle: Path) -> bytes:
    with opened_journal(bundle, HOST) as journal:
        for record in RECORDS:
            journal.append(record)
    return journal_file(bundle).read_bytes()


def _read(bundle: Path, host: str = HOST, fresh: bool = False) -> tuple[Record, ...]:
    with opened_journal(bundle, host, fresh=fresh) as journal:
        return journal.taken_over


def test_it_lies_beside_the_bundle_and_gives_back_what_was_put_in(bundle: Path) -> None:
    _written(bundle)
    assert journal_file(bundle) == bundle.parent / "some.bundle.profiling.jsonl"
    assert _read(bundle) == RECORDS


def test_a_new_one_is_empty_and_a_removed_one_is_gone(bundle: Path) -> None:
    with opened_journal(bundle, HOST) as journal:
        assert journal.taken_over == ()
        journal.append(RECORDS[0])
        journal.remove()
    assert not journal_file(bundle).exists()
    assert _read(bundle) == ()


def test_without_a_file_nothing_is_written(tmp_path: Path) -> None:
    Journal().append(RECORDS[0])
    assert list(tmp_path.iterdir()) == []


def test_cut_off_anywhere_it_gives_back_the_whole_lines_and_can_be_written_on(bundle: Path) -> None:
    content = _written(bundle)
    path = journal_file(bundle)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        whole = content[:length].count(b"\n")
        with opened_journal(bundle, HOST) as journal:
            assert journal.taken_over == RECORDS[: max(0, whole - 1)]
            journal.append(RECORDS[2])
        assert _read(bundle) == (*RECORDS[: max(0, whole - 1)], RECORDS[2])


@settings(max_examples=60, deadline=None)
@given(tail=st.binary(max_size=200).filter(lambda tail: b"\n" not in tail))
def test_whatever_a_torn_last_line_holds_it_is_left_out(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    bundle = tmp_path_factory.mktemp("torn") / "some.bundle"
    content = _written(bundle)
    journal_file(bundle).write_bytes(content + tail)
    assert _read(bundle) == RECORDS


def test_a_malformed_line_is_told_and_left_as_it_is(bundle: Path) -> None:
    lines = _written(bundle).splitlines(keepends=True)
    spoilt = b"".join([*lines[:2], b'{"unit": 3}\n', *lines[2:]])
    journal_file(bundle).write_bytes(spoilt)
    with pytest.raises(BundleError, match=r"is malformed: line 3: .*start anew with --fresh"):
        _read(bundle)
    assert journal_file(bundle).read_bytes() == spoilt
    assert _read(bundle, fresh=True) == ()
    assert _read(bundle) == ()


def test_one_of_another_host_is_told_and_left_as_it_is(bundle: Path) -> None:
    content = _written(bundle)
    with pytest.raises(BundleError, match=f"was begun on host {HOST}, and this is {'f' * 12}"):
        _read(bundle, host="f" * 12)
    assert journal_file(bundle).read_bytes() == content


def test_one_of_another_bundle_or_version_is_told(bundle: Path) -> None:
    content = _written(bundle)
    other = bundle.with_name("other.bundle")
    journal_file(other).write_bytes(content)
    with pytest.raises(BundleError, match=r"belongs to some.bundle, not to other.bundle"):
        _read(other)
    journal_file(bundle).write_bytes(content.replace(b'"deploykit_profiling":1', b'"deploykit_profiling":9'))
    with pytest.raises(BundleError, match=r"version 9; this deploykit goes on from 1"):
        _read(bundle)


@pytest.mark.parametrize("content", [b"my notes\n", b"my notes", b'{"a": 1}\n', b"[1]\n\n", b"\xff\xfe\n"])
@pytest.mark.parametrize("fresh", [False, True])
def test_somebody_elses_file_is_never_touched(bundle: Path, content: bytes, fresh: bool) -> None:
    path = journal_file(bundle)
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"is no journal of deploykit profile.*move the file away"):
        _read(bundle, fresh=fresh)
    assert path.read_bytes() == content


def test_a_link_is_not_followed(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("")
    journal_file(bundle).symlink_to(tmp_path / "precious")
    with pytest.raises(BundleError, match="was not written"):
        _read(bundle)
    assert (tmp_path / "precious").read_text() == ""


def test_two_calls_at_once_do_not_mix(bundle: Path) -> None:
    with opened_journal(bundle, HOST), pytest.raises(BundleError, match="being profiled by another process"):
        _read(bundle)


def test_a_folder_that_takes_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"was not written: .*lies beside the bundle"):
        _read(tmp_path / "missing" / "some.bundle")


def test_a_full_disk_is_told(bundle: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(BundleError, match="No space left on device"):
            Journal(journal_file(bundle), descriptor).append(RECORDS[0])
    finally:
        os.close(descriptor)

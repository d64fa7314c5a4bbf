"""Files are written whole or not at all, on every file system, and tables are written in groups."""

import errno
import os
import stat
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onlybn import files
from onlybn.errors import UserError
from onlybn.files import write_json, write_table, write_tables
from onlybn.training.journal import Journal


def flushing_fails(monkeypatch, folders, number):
    """Make the flush of folders, or of files, fail with this error number."""
    really = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == folders:
            raise OSError(number, os.strerror(number))
        really(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)


def test_a_journal_that_a_broken_disk_does_not_take_is_one_sentence(tmp_path, monkeypatch):
    flushing_fails(monkeypatch, False, errno.EINVAL)
    Journal(tmp_path / "rows").append([("metrics", {"epoch": 1})])
    flushing_fails(monkeypatch, False, errno.EIO)
    with pytest.raises(UserError, match=r"^[^\n]*rows cannot be written \(Input/output error\)[^\n]*$"):
        Journal(tmp_path / "rows").append([("metrics", {"epoch": 1})])


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EPERM, errno.ENOSYS])
def test_a_file_system_that_refuses_modes_and_flushes_is_still_written(tmp_path, monkeypatch, number):
    def chmod(self, mode):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "chmod", chmod)
    for folders in (True, False):
        flushing_fails(monkeypatch, folders, number)
        write_json(tmp_path / "file", {"folders": folders})
        assert str(folders).lower() in (tmp_path / "file").read_text()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_failed_flush_of_data_keeps_the_old_file_and_gives_one_sentence(tmp_path, monkeypatch, number):
    write_json(tmp_path / "file", {"old": True})
    flushing_fails(monkeypatch, False, number)
    with pytest.raises(UserError, match=r"/file cannot be written \(.*\); the existing content is intact$"):
        write_json(tmp_path / "file", {"old": False})
    assert "true" in (tmp_path / "file").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_flush_of_the_folder_is_reported_without_mention_of_the_old_file(tmp_path, monkeypatch):
    flushing_fails(monkeypatch, True, errno.EIO)
    with pytest.raises(UserError, match=r"/file was written, but not flushed to disk \(Input/out"):
        write_json(tmp_path / "file", {"old": False})


def test_tables_are_written_in_groups_and_the_bytes_do_not_depend_on_their_split(tmp_path, monkeypatch):
    words = pa.array(["b", "a", None, "a", "c"] * 20).dictionary_encode()
    table = pa.table({"word": words, "number": range(100)})
    # Cut from a longer table, a part still has the dictionary of the whole.
    cuts = ([table], [table[at : at + 7] for at in range(0, 100, 7)], [table[:90], table[90:]])
    write_table(tmp_path / "at once", table)
    for parts in cuts:
        write_tables(tmp_path / "parts", iter(parts))
        assert (tmp_path / "parts").read_bytes() == (tmp_path / "at once").read_bytes()
    monkeypatch.setattr(files, "GROUP", 40)
    written = set()
    for parts in cuts:
        write_tables(tmp_path / "groups", iter(parts))
        written.add((tmp_path / "groups").read_bytes())
    assert len(written) == 1
    assert pq.ParquetFile(tmp_path / "groups").num_row_groups == 3
    assert pq.read_table(tmp_path / "groups").to_pylist() == table.to_pylist()


def test_tables_are_consumed_only_when_they_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "GROUP", 10)
    waiting = []
    plain = files._plain

    def written(group):
        del waiting[:10]
        return plain(group)

    def parts():
        for number in range(50):
            waiting.append(number)
            assert len(waiting) < 13
            yield pa.table({"number": [number]})

    monkeypatch.setattr(files, "_plain", written)
    write_tables(tmp_path / "table", parts())
    assert len(pq.read_table(tmp_path / "table")) == 50

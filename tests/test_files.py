"""Files are written whole or not at all, on every file system, and tables piece by piece."""

import pyarrow as pa
import pyarrow.parquet as pq

from onlybn import files
from onlybn.files import write_table, write_tables


def test_tables_are_written_in_groups_with_the_same_bytes_however_they_are_cut(tmp_path, monkeypatch):
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


def test_tables_are_taken_no_earlier_than_they_are_written(tmp_path, monkeypatch):
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

"""Rows that a run has noted so far, on disk beside its checkpoint, in a file that only grows."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from onlybn.errors import UserError

Row = tuple[str, dict[str, Any]]


class Journal:
    """A file with a line of JSON per row, `[table, row]`; a checkpoint tells how much of it is its own.

    What a killed process appended behind that is overwritten.
    """

    def __init__(self, path: Path):
        self.path = path
        self.rows, self.bytes, self.digest = 0, 0, hashlib.sha256()

    def told(self) -> dict[str, Any]:
        """Return what a checkpoint tells of the rows so far: their bytes and SHA-256."""
        return {"bytes": self.bytes, "sha256": self.digest.hexdigest()}

    def append(self, rows: Sequence[Row]) -> None:
        """Append rows and have the disk hold them; raise UserError if it cannot."""
        if not rows:
            return
        text = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        try:
            with self.path.open("r+b" if self.bytes else "wb") as file:
                file.truncate(self.bytes)
                file.seek(self.bytes)
                file.write(text)
                file.flush()
                with suppress(OSError):  # a file system that refuses is written without
                    os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written ({error.strerror}); the existing content is intact"
            ) from error
        self.rows += len(rows)
        self.bytes += len(text)
        self.digest.update(text)

    def read(self, told: Mapping[str, Any]) -> list[Row]:
        """Return the rows that a checkpoint tells of, behind which the next are appended.

        Raises ValueError if they are not the checkpoint's, or what the file system raises.
        """
        text = b""
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            text = file.read(told["bytes"])
        digest = hashlib.sha256(text)
        if digest.hexdigest() != told["sha256"]:
            raise ValueError("its rows are not those of its digest")
        rows = [(table, row) for table, row in map(json.loads, text.splitlines())]
        self.rows, self.bytes, self.digest = len(rows), len(text), digest
        return rows

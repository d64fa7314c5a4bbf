"""The journal: a run's rows so far, in an append-only file beside its checkpoint."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from onlybn.errors import UserError
from onlybn.files import flush

Row = tuple[str, dict[str, Any]]


class Journal:
    """A file with a line of JSON per row, `[table, row]`; a checkpoint records how much of it is valid.

    Anything that a killed process appended after that is overwritten.
    """

    def __init__(self, path: Path):
        self.path = path
        self.rows, self.bytes, self.digest = 0, 0, hashlib.sha256()

    def position(self) -> dict[str, Any]:
        """Return what a checkpoint records about the rows so far: their size in bytes and their SHA-256."""
        return {"bytes": self.bytes, "sha256": self.digest.hexdigest()}

    def append(self, rows: Sequence[Row]) -> None:
        """Append rows and flush them to disk; raise UserError if that fails."""
        if not rows:
            return
        text = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        try:
            with self.path.open("r+b" if self.bytes else "wb") as file:
                file.truncate(self.bytes)
                file.seek(self.bytes)
                file.write(text)
                file.flush()
                flush(file.fileno())
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written ({error.strerror}); the existing content is intact"
            ) from error
        self.rows += len(rows)
        self.bytes += len(text)
        self.digest.update(text)

    def read(self, position: Mapping[str, Any]) -> list[Row]:
        """Return the rows until a checkpoint's position; the next rows are appended there.

        Raises ValueError if they are not the checkpoint's rows, or what the file system raises.
        """
        text = b""
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            text = file.read(position["bytes"])
        digest = hashlib.sha256(text)
        if digest.hexdigest() != position["sha256"]:
            raise ValueError("its rows do not match their digest")
        rows = [(table, row) for table, row in map(json.loads, text.splitlines())]
        self.rows, self.bytes, self.digest = len(rows), len(text), digest
        return rows

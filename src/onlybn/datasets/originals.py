"""Files as their authors published them, verified against their MD5."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from onlybn.errors import UserError


def is_there(name: str, path: Path, md5: str) -> bool:
    """Return whether a file of the dataset `name` exists; raise UserError if it has another MD5."""
    if not path.is_file():
        return False
    found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if found != md5:
        raise UserError(f"{name}: {path} is truncated or altered: its MD5 is {found}, expected {md5}")
    return True


@contextmanager
def arriving(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder in `folder`, which is created, for files that are renamed once whole.

    A process that is interrupted leaves no partial file, and two processes may fetch the same file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".arriving-", dir=folder) as temporary:
        yield Path(temporary)


def verify(name: str, path: Path, md5: str) -> None:
    """Raise UserError if a file of the dataset `name` is missing or has another MD5."""
    if not is_there(name, path, md5):
        raise UserError(f"{name}: {path} is missing; expected a file with MD5 {md5}")

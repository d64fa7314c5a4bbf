"""Files as their authors published them, verified against their MD5."""

import hashlib
from pathlib import Path

from onlybn.errors import UserError


def is_there(name: str, path: Path, md5: str) -> bool:
    """Return whether a file of the dataset `name` exists; raise UserError if it has another MD5."""
    if not path.is_file():
        return False
    found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if found != md5:
        raise UserError(f"{name}: {path} is truncated or altered: its MD5 is {found}, expected {md5}")
    return True


def verify(name: str, path: Path, md5: str) -> None:
    """Raise UserError if a file of the dataset `name` is missing or has another MD5."""
    if not is_there(name, path, md5):
        raise UserError(f"{name}: {path} is missing; expected a file with MD5 {md5}")

"""Custom architectures, datasets and regimes, which a study names as `module:function`.

A module is searched for on Python's import path, and last in the folder of the study file, so that no file
there can hide a module of Python or of a package. Until a job calls the function, the file is only parsed,
never run: it may import torch, and the Snakefile is read again in every cluster job.
"""

import importlib
import pkgutil
import re
import symtable
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from onlybn.errors import UserError, unknown_message
from onlybn.files import sha256

_WORD = r"[A-Za-z_][A-Za-z0-9_]*"
# The keys of what `source` returns.
SOURCE = ("module", "folder", "sha256")
_NAME = rf"{_WORD}(\.{_WORD})*:{_WORD}"


def is_custom(name: str) -> bool:
    """Return whether a name is custom: only custom names have a colon."""
    return ":" in name


def to_path(name: str) -> str:
    """Return a name as it is spelled in paths, where some systems do not allow a colon."""
    return name.replace(":", ".")


def from_path(part: str) -> str:
    """Return the name from its spelling in a path; no built-in name has a dot."""
    return ":".join(part.rsplit(".", 1))


def import_from(folder: Path | str) -> None:
    """Let this process also import modules from that folder, as the last place to search."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def check(kind: str, name: str) -> None:
    """Raise ValueError, in one sentence, if `module:function` does not exist; the module is not run."""
    if not re.fullmatch(_NAME, name):
        raise ValueError(f"'{name}' is not the module:function of a custom {kind}")
    module, function = name.split(":")
    spec = _find(module)
    if spec is None or not spec.has_location:
        top = module.split(".")[0]
        near = get_close_matches(top, [found.name for found in pkgutil.iter_modules()], n=1)
        suggestion = f"; did you mean '{near[0]}'?" if near and near[0] != top else ""
        raise ValueError(
            f"'{name}': the module {module} is neither beside the study file nor on Python's import path"
            + suggestion
        )
    file = Path(spec.origin)
    if file.suffix != ".py":
        return
    try:
        symbols = symtable.symtable(file.read_text(encoding="utf-8"), str(file), "exec").get_symbols()
    except (SyntaxError, ValueError) as error:
        line = f" line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ValueError(f"'{name}': {file}{line} is not valid Python: {error}".splitlines()[0]) from None
    if function not in {
        symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()
    }:
        defined = [symbol.get_name() for symbol in symbols if symbol.is_namespace()]
        raise ValueError(
            f"'{name}': " + unknown_message(f"function of {file}", function, sorted(defined) or ["none"])
        )


# The sources of modules when this process imported them: a file may be edited or deleted while it runs.
_imported: dict[str, dict[str, str]] = {}


def call(name: str, *arguments: Any, **keywords: Any) -> Any:
    """Import the module and call the function; any exception becomes one UserError."""
    module, function = name.split(":")
    with blaming(name):
        if module not in sys.modules and (spec := _find(module)) and spec.has_location:
            _imported[module] = _source(module)
        return getattr(importlib.import_module(module), function)(*arguments, **keywords)


@contextmanager
def blaming(name: str) -> Iterator[None]:
    """Turn any exception of the body into one UserError that names the line in the module of `name`."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # custom code may raise anything
        spec = _find(name.split(":")[0])
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if spec and frame.filename == spec.origin]
        what = " ".join(str(error).split())
        where = f" ({Path(spec.origin).name} line {lines[-1]})" if lines else ""
        raise UserError(f"{name} failed: {type(error).__name__}: {what}{where}") from error


def source(name: str) -> dict[str, str]:
    """Return the folder that a name's module is imported from, and the SHA-256 of its file.

    For a module that this process has called, this is the imported version, even if the file has changed.
    """
    module = name.split(":")[0]
    return _imported[module] if module in _imported and module in sys.modules else _source(module)


def _source(module: str) -> dict[str, str]:
    top, spec = _find(module.split(".")[0]), _find(module)
    inside = top.submodule_search_locations
    folder = Path(inside[0] if inside else top.origin).resolve().parent
    return dict(zip(SOURCE, (module, str(folder), sha256(Path(spec.origin))), strict=True))


def since(recorded: Mapping[str, str]) -> str:
    """Compare a module with what `source` recorded of it; the module is not run.

    `same`: the file has the same content, in whatever folder; `edited`: it has other content; `other`: a
    module of that name is in another folder, with other content; `gone`: there is no such module.
    """
    spec = _find(recorded["module"])
    if spec is None or not spec.has_location:
        return "gone"
    now = _source(recorded["module"])
    if now["sha256"] == recorded["sha256"]:
        return "same"
    return "edited" if now["folder"] == recorded["folder"] else "other"


def find_again(sources: list[dict[str, str]]) -> Iterator[str]:
    """Let this process import the modules that `source` recorded; yield those whose files have changed."""
    for recorded in sources:
        if since(recorded) == "gone":
            import_from(recorded["folder"])
        if since(recorded) in ("edited", "other"):
            yield recorded["module"]


def _find(module: str) -> ModuleSpec | None:
    """Find a module as Python's own search does, without running it or the packages that contain it."""
    importlib.invalidate_caches()
    top, *inner = module.split(".")
    try:
        spec = find_spec(top)
    except ValueError:  # a module without a file, such as __main__
        return None
    for part in inner:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
    return spec

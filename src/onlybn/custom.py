"""What a study names as `module:function`: the user's own architectures, datasets and regimes.

A module is looked for where Python imports from, and last in the folder of the study file, so that nothing
in there can stand in for a module of Python's or of a package. Until a job calls the function its file is
only read, never run: it may import torch, and the Snakefile is read again in every cluster job.
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
# What `source` tells of a module.
SOURCE = ("module", "folder", "sha256")
_NAME = rf"{_WORD}(\.{_WORD})*:{_WORD}"


def is_custom(name: str) -> bool:
    """Say whether a name is of something of the user's own; no built-in name has a colon."""
    return ":" in name


def to_path(name: str) -> str:
    """Return how a name is spelled in paths, where a colon is trouble on some systems."""
    return name.replace(":", ".")


def from_path(part: str) -> str:
    """Return the name that is spelled so in a path; no built-in name has a dot."""
    return ":".join(part.rsplit(".", 1))


def import_from(folder: Path | str) -> None:
    """Let this process import modules from that folder too, after all others."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def check(kind: str, name: str) -> None:
    """Raise ValueError, in one sentence, if `module:function` is not there; runs nothing of the module."""
    if not re.fullmatch(_NAME, name):
        raise ValueError(f"'{name}' is not the module:function of {_a(kind)} of your own")
    module, function = name.split(":")
    spec = _find(module)
    if spec is None or not spec.has_location:
        top = module.split(".")[0]
        near = get_close_matches(top, [found.name for found in pkgutil.iter_modules()], n=1)
        suggestion = f"; did you mean '{near[0]}'?" if near and near[0] != top else ""
        raise ValueError(
            f"'{name}': there is no module {module} beside the study file or where Python imports from"
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


# What the modules' files were when this process imported them; one may be edited, or go, while it runs.
_imported: dict[str, dict[str, str]] = {}


def call(name: str, *arguments: Any, **keywords: Any) -> Any:
    """Import the module and call the function; whatever they raise is told in one UserError."""
    module, function = name.split(":")
    with blaming(name):
        if module not in sys.modules and (spec := _find(module)) and spec.has_location:
            _imported[module] = _source(module)
        return getattr(importlib.import_module(module), function)(*arguments, **keywords)


@contextmanager
def blaming(name: str) -> Iterator[None]:
    """Tell what the body raises in one UserError that says where in the module of `name` it came from."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the user's code may raise anything
        spec = _find(name.split(":")[0])
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if spec and frame.filename == spec.origin]
        what = " ".join(str(error).split())
        where = f" ({Path(spec.origin).name} line {lines[-1]})" if lines else ""
        raise UserError(f"{name} failed: {type(error).__name__}: {what}{where}") from error


def source(name: str) -> dict[str, str]:
    """Return the folder that a name's module is imported from, and the SHA-256 of its file.

    Of a module that this process has called, it is what was imported, whatever the file is by now.
    """
    module = name.split(":")[0]
    return _imported[module] if module in _imported and module in sys.modules else _source(module)


def _source(module: str) -> dict[str, str]:
    top, spec = _find(module.split(".")[0]), _find(module)
    inside = top.submodule_search_locations
    folder = Path(inside[0] if inside else top.origin).resolve().parent
    return dict(zip(SOURCE, (module, str(folder), sha256(Path(spec.origin))), strict=True))


def since(told: Mapping[str, str]) -> str:
    """Say what a module that `source` told of is by now; runs nothing of it.

    `same`: its file is as it was, wherever it lies; `edited`: it is not; `other`: another folder has a
    module of that name, with another file; `gone`: there is none.
    """
    spec = _find(told["module"])
    if spec is None or not spec.has_location:
        return "gone"
    now = _source(told["module"])
    if now["sha256"] == told["sha256"]:
        return "same"
    return "edited" if now["folder"] == told["folder"] else "other"


def find_again(sources: list[dict[str, str]]) -> Iterator[str]:
    """Let this process import what `source` told of, and yield the modules whose files are others by now."""
    for told in sources:
        if since(told) == "gone":
            import_from(told["folder"])
        if since(told) in ("edited", "other"):
            yield told["module"]


def _find(module: str) -> ModuleSpec | None:
    """Find a module without running it or the packages that it lies in, as Python's own search would."""
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


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"

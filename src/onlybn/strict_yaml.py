"""Strict YAML: spellings that YAML 1.1 and YAML 1.2 read differently are rejected.

PyYAML, and so Snakemake, follows YAML 1.1, where 010 is 8, 1:30 is 90 and `no` is false. Most other readers,
and most people, follow YAML 1.2.
"""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from onlybn.errors import UserError

# YAML 1.2's core schema (its section 10.3.2): an unquoted value that matches none of these is a string.
_NULL = r"~|null|Null|NULL|"
_BOOL = r"true|True|TRUE|false|False|FALSE"
_BASES = {r"[-+]?[0-9]+": 10, r"0o[0-7]+": 8, r"0x[0-9a-fA-F]+": 16}
_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
_NOT_FINITE = r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"


def read_yaml(file: Path) -> Any:
    """Return the content of a YAML file.

    Raises UserError, with a sentence and a line number for each error, if the file is not valid YAML, if a
    key is repeated, or if YAML 1.1 and 1.2 read a value differently.
    """
    try:
        loader = _Loader(file.read_text(encoding="utf-8"))
        try:
            content = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}:" if error.problem_mark else ""
        raise UserError(f"{file}:{line} not valid YAML: {error.problem}") from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as YAML: {error}".splitlines()[0]) from None
    if loader.ambiguous:
        raise UserError("\n".join(f"{file}: {fault}" for fault in loader.ambiguous))
    return content


class _Loader(yaml.SafeLoader):
    """YAML's safe loader that also rejects repeated keys and collects ambiguous spellings."""

    def __init__(self, text: str):
        super().__init__(text)
        self.ambiguous: list[str] = []

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key '{key.value}' is repeated", problem_mark=key.start_mark
                )
            seen.add((key.tag, str(key.value)))
        return super().construct_mapping(node, deep)

    def compose_scalar_node(self, anchor):
        node = super().compose_scalar_node(anchor)
        plain = not node.style and node.tag == self.resolve(yaml.ScalarNode, node.value, (True, False))
        if plain and not node.tag.endswith(":merge"):
            self._compare(node)
        return node

    def _compare(self, node: yaml.ScalarNode) -> None:
        """Collect a spelling that YAML 1.1 and 1.2 read differently, with what to write instead."""
        text, line = node.value, node.start_mark.line + 1
        old, new = _old(node), scalar(text)
        # Numbers such as 1e-3 are strings in YAML 1.1; the validated models read them as YAML 1.2 does.
        if repr(old) == repr(new) or (isinstance(old, str) and isinstance(new, float)):
            return
        write = [_meaning(value) for value in (new, old) if isinstance(value, int | float)]
        if isinstance(old, bool):
            write = ["true", "false"]
        if str in (type(old), type(new)):
            write.append(f"'{text}' in quotes")
        self.ambiguous.append(
            f"line {line}: {text} is {_meaning(old)} in YAML 1.1 and {_meaning(new)} in YAML 1.2;"
            f" write {' or '.join(write)}"
        )


def _meaning(value: Any) -> str:
    match value:
        case str():
            return "a text"
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
    return "a date"


def _old(node: yaml.ScalarNode) -> Any:
    """Return the value in YAML 1.1, or in YAML 1.2 where 1.1 rejects it (for example a 13th month)."""
    try:
        return yaml.SafeLoader("").construct_object(node)
    except ValueError:
        return scalar(node.value)


def scalar(text: str) -> Any:
    """Return the null, boolean, number or string that an unquoted text is in YAML 1.2."""
    if re.fullmatch(_NULL, text):
        return None
    if re.fullmatch(_BOOL, text):
        return text.lower() == "true"
    for pattern, base in _BASES.items():
        with suppress(ValueError):  # Python parses at most 4,300 digits
            if re.fullmatch(pattern, text):
                return int(text, base)
    if re.fullmatch(_FLOAT, text):
        return float(text)
    if re.fullmatch(_NOT_FINITE, text):
        return float(text.replace(".", ""))
    return text

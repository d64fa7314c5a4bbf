"""Recordings: what observers record while a run trains, without changing the run.

A recording is a module of that name, with the columns SCHEMA of its table, a pydantic model `Options`, and
`Recorder(run, network, steps_per_epoch, options)`, which is an Observer. These modules do not import torch
until training starts, since recordings are checked when a study is read.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from onlybn.errors import unknown_message

if TYPE_CHECKING:
    from pydantic import BaseModel

OBSERVERS = ("weights",)


class Observer(Protocol):
    """Looks at some steps of a run and returns rows; `onlybn.observers.moment` defines what it sees."""

    def wants(self, epoch: int, step: int) -> bool:
        """Return whether to look at that step of that epoch, both counted from 1; the answer is constant."""

    def look(self, moment: Any) -> Sequence[dict[str, Any]]:
        """Return rows of the table, with JSON values; any change to the network is undone afterwards."""


def module(name: str) -> ModuleType:
    """Return the module of a recording."""
    return import_module(f"onlybn.observers.{name}")


def check(name: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a recording's options as plain JSON values, with all defaults.

    Raises ValueError, with a sentence for each error, if the recording or an option is unknown or invalid.
    """
    from pydantic import ValidationError

    if name not in OBSERVERS:
        raise ValueError(unknown_message("recording", name, OBSERVERS))
    model: type[BaseModel] = module(name).Options
    try:
        return model.model_validate({} if options is None else options).model_dump(mode="json")
    except ValidationError as error:
        raise ValueError("\n".join(_sentence(name, model, fault) for fault in error.errors())) from None


def _sentence(name: str, model: "type[BaseModel]", fault: Mapping[str, Any]) -> str:
    if not fault["loc"]:
        return f"{name}: {fault['input']!r} is not a mapping of options"
    key = fault["loc"][0]
    if fault["type"] == "extra_forbidden":
        return f"{name}: {unknown_message('option', key, model.model_fields)}"
    return f"{name}.{key}: {fault['input']!r} is not {model.model_fields[key].description}"


def observe(name: str, run: Any, network: Any, steps_per_epoch: int, options: Mapping[str, Any]) -> Observer:
    """Return the observer of a recording for a run and its untrained network; `options` come from `check`.

    Raises UserError if the options do not fit the network.
    """
    return module(name).Recorder(run, network, steps_per_epoch, options)

"""Recordings: what observers record while a run trains, without changing the run.

A recording is a module of that name (with underscores), with the columns SCHEMA of its table, a pydantic
model `Options`, and `Recorder(run, network, steps_per_epoch, options)`, which is an Observer. These modules
do not import torch until training starts, since recordings are checked when a study is read.
"""

from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from onlybn.errors import UserError, unknown_message

if TYPE_CHECKING:
    from pydantic import BaseModel

# Recordings that a process which has only a part of a batch cannot make.
OF_WHOLE_BATCHES = (
    *("curve", "inputs", "gradient-shift", "landscape"),
    *("reestimated", "generalisation", "identity"),
)
OBSERVERS = ("weights", *OF_WHOLE_BATCHES)


class Observer(Protocol):
    """Looks at some steps of a run and returns rows; `onlybn.observers.moment` defines what it sees."""

    def wants(self, epoch: int, step: int) -> bool:
        """Return whether to look at that step of that epoch, both counted from 1; the answer is constant."""

    def look(self, moment: Any) -> Sequence[dict[str, Any]]:
        """Return rows of the table, with JSON values.

        Any change to the network or to the step of the noise is undone afterwards.
        """


def module(name: str) -> ModuleType:
    """Return the module of a recording."""
    return import_module(f"onlybn.observers.{name.replace('-', '_')}")


def check(name: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a recording's options as plain JSON values, with all defaults.

    Raises ValueError, with a sentence for each error, if the recording or an option is unknown or invalid.
    """
    from pydantic import ValidationError

    if name not in OBSERVERS:
        raise ValueError(unknown_message("recording", name, OBSERVERS))
    model: type[BaseModel] = module(name).Options
    options = {} if options is None else options
    try:
        return model.model_validate(options).model_dump(mode="json")
    except ValidationError as error:
        sentences = (_sentence(name, model, options, fault) for fault in error.errors())
        raise ValueError("\n".join(dict.fromkeys(sentences))) from None


def _sentence(name: str, model: "type[BaseModel]", options: Any, fault: Mapping[str, Any]) -> str:
    if not fault["loc"]:
        return f"{name}: {options!r} is not a mapping of options"
    key = fault["loc"][0]
    if key not in model.model_fields:
        return f"{name}: {unknown_message('option', str(key), model.model_fields)}"
    return f"{name}.{key}: {options[key]!r} is not {model.model_fields[key].description}"


def check_processes(names: Collection[str], processes: int) -> None:
    """Raise UserError if one of these recordings needs the whole batch, and several processes share it."""
    refused = [name for name in OF_WHOLE_BATCHES if name in names]
    if refused and processes > 1:
        raise UserError(
            f"processes_per_run: {processes} processes each have a part of a batch, and the recording"
            f" {', '.join(refused)} needs the whole batch; allowed: 1"
        )


def observe(name: str, run: Any, network: Any, steps_per_epoch: int, options: Mapping[str, Any]) -> Observer:
    """Return the observer of a recording for a run and its untrained network; `options` come from `check`.

    Raises UserError if the options do not fit the network.
    """
    return module(name).Recorder(run, network, steps_per_epoch, options)

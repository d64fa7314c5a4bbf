"""Training BatchNorm and Only BatchNorm, reproduced: the study, its training engine and its figures.

`onlybn.load(folder)` gives back the network of a finished run. Importing the package is cheap: torch
is imported by the modules that train, never by those that validate, collect or draw.
"""

from importlib import import_module

__version__ = "0.1.0"


def __getattr__(name: str):
    if name == "load":
        return import_module("onlybn.runs.saving").load
    raise AttributeError(f"module 'onlybn' has no attribute {name!r}")

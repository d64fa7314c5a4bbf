"""A reproduction of Training BatchNorm and Only BatchNorm: studies, the training engine and figures.

`onlybn.load(folder)` returns the network of a finished run; `onlybn.Bank` holds several tasks on one network.
Importing the package is cheap: only modules that train import torch; those that validate, collect or draw do
not.
"""

from importlib import import_module

__version__ = "0.1.0"


def __getattr__(name: str):
    if name == "load":
        return import_module("onlybn.runs.saving").load
    if name == "Bank":
        return import_module("onlybn.exporting.bank").Bank
    raise AttributeError(f"module 'onlybn' has no attribute {name!r}")

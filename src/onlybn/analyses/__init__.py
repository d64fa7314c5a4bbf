"""Analyses of finished runs that read the dataset; each is a module of its name.

Such a module has a function of the same name; `onlybn.runs.schemas` has the columns of the table that the
function returns. (The affine table needs no dataset and is written by training.)
"""

ANALYSES = ("clamping", "activations", "removal", "statistics")

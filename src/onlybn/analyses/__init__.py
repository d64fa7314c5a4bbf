"""What is measured on a finished run: for each analysis that reads the dataset, the module of its name.

Such a module holds a function of that name too; `onlybn.runs.schemas` has the columns of the table that it
returns. (The affine table needs no dataset, and is written by training.)
"""

ANALYSES = ("clamping", "activations")

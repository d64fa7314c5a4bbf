"""The tables of the paper and of the study: for each, what it is made from.

Table `table-1` is the module `table_1`, which turns those tables into its rows, and the rows into
Markdown.
"""

TABLES: dict[str, tuple[str, ...]] = {
    "table-1": ("parameter_counts",),
    "accuracy": ("metrics",),
}
# What `main` makes.
MAIN = ("table-1", "accuracy")

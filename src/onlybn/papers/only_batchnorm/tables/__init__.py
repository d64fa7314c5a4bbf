"""The tables of the paper and of the study: for each, its module, and what it is made from."""

# Table: module, and the collected tables that its `numbers` takes, in that order. Every study gets the
# provenance of its runs without naming it.
TABLES: dict[str, tuple[str, ...]] = {
    "table-1": ("table_1", "parameter_counts"),
    "accuracy": ("accuracy", "metrics"),
    "accuracy-vgg": ("accuracy", "metrics"),
    "accuracy-shortcut": ("accuracy", "metrics"),
    "accuracy-initialisation": ("accuracy", "metrics"),
    "accuracy-random": ("accuracy", "metrics"),
    "failed": ("failed", "metrics"),
    "near-zero": ("near_zero", "affine"),
    "dead-relu": ("dead_relu", "activations"),
    "claims": ("claims", "metrics", "affine", "clamping", "activations"),
    "provenance": ("provenance", "runs", "metrics"),
    "provenance-appendices": ("provenance", "runs", "metrics"),
}
# What `main` makes.
MAIN = ("table-1", "accuracy", "provenance")

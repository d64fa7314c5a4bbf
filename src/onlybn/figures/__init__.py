"""The figures of the paper: for each, the experiments' tables that it draws.

Figure `figure-2` is the module `figure_2`, which turns collected tables into the numbers drawn, the
numbers into a picture, and says in a caption what to see.
"""

FIGURES: dict[str, tuple[str, ...]] = {
    "figure-1": ("metrics",),
    "figure-2": ("metrics",),
    "figure-3": ("metrics",),
}
# What `main` draws; the appendices' come with `all`.
MAIN = tuple(f"figure-{number}" for number in range(1, 8))

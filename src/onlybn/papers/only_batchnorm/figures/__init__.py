"""The figures of the paper: for each, its module, and the kind of collected table that it draws.

A module turns collected tables into the numbers drawn, the numbers into a picture, and says in a caption
what to see. Appendix figures reuse the modules of the main part for other networks: which networks a
figure shows is for the study to say.
"""

# Figure: module, table.
FIGURES: dict[str, tuple[str, str]] = {
    "figure-1": ("figure_1", "metrics"),
    "figure-2": ("figure_2", "metrics"),
    "figure-3": ("figure_3", "metrics"),
    "figure-4": ("gamma", "affine"),
    "figure-5": ("figure_5", "affine"),
    "figure-6": ("figure_6", "clamping"),
    "figure-7": ("figure_7", "activations"),
    "figure-c2": ("figure_2", "metrics"),
    "figure-c4": ("gamma", "affine"),
    "figure-c5": ("figure_5", "affine"),
    "figure-c6": ("figure_6", "clamping"),
    "figure-c7": ("figure_7", "activations"),
    "figure-d": ("figure_d", "metrics"),
    "figure-e1": ("figure_e1", "metrics"),
    "figure-e2": ("figure_e2", "metrics"),
    "figure-f": ("figure_f", "metrics"),
    "figure-g": ("gamma", "affine"),
    "figure-h": ("beta", "affine"),
    "figure-i": ("off", "activations"),
    # Beyond the paper.
    "figure-g-layers": ("gamma_layers", "affine"),
    "figure-h-layers": ("beta_layers", "affine"),
    "figure-i-layers": ("off_layers", "activations"),
}
# What `main` draws; the appendices' come with `all`.
MAIN = tuple(f"figure-{number}" for number in range(1, 8))


def numbered(figure: str) -> str:
    """Return what a figure is called: Figure 2, or for `figure-g-layers` Figure G, by layer."""
    letter, _, extension = figure.removeprefix("figure-").partition("-")
    return f"Figure {letter.upper()}" + (f", by {extension.removesuffix('s')}" if extension else "")

"""What of the paper is reproduced: a record of each figure and table, by the report's categories."""

from onlybn.papers import Figure, Paper, Table

METRICS, AFFINE, CLAMPING, ACTIVATIONS = ("metrics",), ("affine",), ("clamping",), ("activations",)
# What figures or tables of several parts of the paper show.
BY_REGIME = "accuracy by what trains"
GAMMA = "distribution of γ"
SHARES = "share of γ near 0"
CLAMPED = "accuracy with small γ set to 0"
OFF = "ReLU channels that are off"
ACCURACY = "Final accuracy by network and regime"


def _main(number: int, module: str, reads: tuple[str, ...], shows: str, *regimes: str) -> Figure:
    """Return the record of a figure of the main text, of these regimes or of all."""
    section = f"Figure {number}"
    return Figure(f"figure-{number}", module, reads, shows, section, main=True, regimes=regimes)


def _claims(name: str, shows: str, *, main: bool) -> Table:
    """Return the record of a table of judged claims."""
    kinds = ("affine", "clamping", "activations")
    return Table(name, ".tables.claims", METRICS, shows, main=main, if_drawn=kinds, judges=True)


PAPER = Paper(
    name="only-batchnorm",
    title="Only BatchNorm",
    about="""\
A reproduction of *Training BatchNorm and Only BatchNorm: On the Expressive Power of Random Features in CNNs*
(Frankle, Schwab, Morcos, ICLR 2021; `arXiv 2003.00152 <https://arxiv.org/abs/2003.00152>`__,
`OpenReview <https://openreview.net/forum?id=vYeQQ29Tbvx>`__): networks stay at their random initialisation,
and nothing trains but BatchNorm's γ and β.""",
    package=__package__,
    claims=".claims",
    records={
        "Claims and accuracy": (
            _claims("claims", "Claims of the paper, judged", main=True),
            _claims("claims-appendices", "Claims of the paper's appendices, judged", main=False),
            Table("accuracy", ".tables.accuracy", METRICS, ACCURACY, "Figure 2", main=True),
        ),
        "Main text": (
            _main(1, ".figures.accuracy:AFFINE", METRICS, "accuracy with and without γ and β"),
            _main(2, ".figures.accuracy:REGIMES", METRICS, BY_REGIME),
            _main(3, ".figures.figure_3", METRICS, "accuracy by number of BatchNorm parameters", "batchnorm"),
            _main(4, ".figures.distribution:GAMMA", AFFINE, GAMMA),
            _main(5, ".figures.shares:NEAR_ZERO", AFFINE, SHARES),
            _main(6, ".figures.figure_6", CLAMPING, CLAMPED),
            _main(7, ".figures.shares:OFF", ACTIVATIONS, OFF),
            Table("table-1", ".tables.table_1", ("parameter_counts",), "parameter counts", main=True),
            Table(
                "near-zero", ".tables.near_zero", AFFINE, "Share of γ near 0, by the sign of β", "Figure 5"
            ),
            Table("dead-relu", ".tables.dead_relu", ACTIVATIONS, f"{OFF}, by position", "Figure 7"),
        ),
        "Appendix C, VGG": (
            Figure("figure-c2", ".figures.accuracy:REGIMES", METRICS, BY_REGIME, "Appendix C"),
            Figure("figure-c4", ".figures.distribution:GAMMA", AFFINE, GAMMA),
            Figure("figure-c5", ".figures.shares:NEAR_ZERO", AFFINE, SHARES),
            Figure("figure-c6", ".figures.figure_6", CLAMPING, CLAMPED),
            Figure("figure-c7", ".figures.shares:OFF", ACTIVATIONS, OFF),
            Table("accuracy-vgg", ".tables.accuracy", METRICS, ACCURACY, "Appendix C"),
        ),
        "Appendix D, shortcuts": (
            Figure(
                "figure-d", ".figures.accuracy:SHORTCUTS", METRICS, "accuracy with the shortcuts trained too"
            ),
            Table("accuracy-shortcut", ".tables.accuracy", METRICS, ACCURACY),
        ),
        "Appendix E, initialisation": (
            Figure(
                "figure-e1", ".figures.initialisation:FEATURES", METRICS, "accuracy by the features' draw"
            ),
            Figure(
                "figure-e2",
                ".figures.initialisation:BATCHNORM",
                METRICS,
                "accuracy by BatchNorm's initialisation",
                "Appendix E.2",
            ),
            Table("accuracy-initialisation", ".tables.accuracy", METRICS, ACCURACY),
            Table("failed", ".tables.failed", METRICS, "Runs that failed to train"),
        ),
        "Appendix F, random weights": (
            Figure(
                "figure-f",
                ".figures.figure_f",
                METRICS,
                "accuracy by number of random weights",
                regimes=("batchnorm", "random-*"),
            ),
            Table("accuracy-random", ".tables.accuracy", METRICS, ACCURACY),
        ),
        "Appendices G to I, every network": (
            Figure("figure-g", ".figures.distribution:GAMMA", AFFINE, GAMMA),
            Figure("figure-h", ".figures.distribution:BETA", AFFINE, "distribution of β"),
            Figure("figure-i", ".figures.distribution:OFF", ACTIVATIONS, "how often ReLU channels are off"),
            # By layer: beyond the paper.
            Figure("figure-g-layers", ".figures.layers:GAMMA", AFFINE, "γ"),
            Figure("figure-h-layers", ".figures.layers:BETA", AFFINE, "β"),
            Figure("figure-i-layers", ".figures.layers:OFF", ACTIVATIONS, "how often ReLU channels are off"),
        ),
    },
)

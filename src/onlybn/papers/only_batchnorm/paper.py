"""What of the paper is reproduced: a record of each figure and table, by the report's categories."""

from onlybn.papers import Figure, Paper, Table

SHARES = "share of γ near 0"
OFF = "ReLU channels that are off"
ACCURACY = "Final accuracy by network and regime"

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
            Table(
                "claims",
                ".tables.claims",
                ("metrics",),
                "Claims of the paper, judged",
                if_drawn=("affine", "clamping", "activations"),
            ),
            Table("accuracy", ".tables.accuracy", ("metrics",), ACCURACY, "Figure 2", main=True),
        ),
        "Main text": (
            Figure(
                "figure-1",
                ".figures.figure_1",
                ("metrics",),
                "accuracy with and without γ and β",
                "Figure 1",
                main=True,
            ),
            Figure(
                "figure-2",
                ".figures.figure_2",
                ("metrics",),
                "accuracy by what trains",
                "Figure 2",
                main=True,
            ),
            Figure(
                "figure-3",
                ".figures.figure_3",
                ("metrics",),
                "accuracy by number of BatchNorm parameters",
                "Figure 3",
                main=True,
                regimes=("batchnorm",),
            ),
            Figure("figure-4", ".figures.gamma", ("affine",), "distribution of γ", "Figure 4", main=True),
            Figure("figure-5", ".figures.figure_5", ("affine",), SHARES, "Figure 5", main=True),
            Figure(
                "figure-6",
                ".figures.figure_6",
                ("clamping",),
                "accuracy with small γ set to 0",
                "Figure 6",
                main=True,
            ),
            Figure("figure-7", ".figures.figure_7", ("activations",), OFF, "Figure 7", main=True),
            Table("table-1", ".tables.table_1", ("parameter_counts",), "parameter counts", main=True),
            Table(
                "near-zero",
                ".tables.near_zero",
                ("affine",),
                "Share of γ near 0, by the sign of β",
                "Figure 5",
            ),
            Table("dead-relu", ".tables.dead_relu", ("activations",), f"{OFF}, by position", "Figure 7"),
        ),
        "Appendix C, VGG": (
            Figure("figure-c2", ".figures.figure_2", ("metrics",), "accuracy by what trains", "Appendix C"),
            Figure("figure-c4", ".figures.gamma", ("affine",), "distribution of γ"),
            Figure("figure-c5", ".figures.figure_5", ("affine",), SHARES),
            Figure("figure-c6", ".figures.figure_6", ("clamping",), "accuracy with small γ set to 0"),
            Figure("figure-c7", ".figures.figure_7", ("activations",), OFF),
            Table("accuracy-vgg", ".tables.accuracy", ("metrics",), ACCURACY, "Appendix C"),
        ),
        "Appendix D, shortcuts": (
            Figure("figure-d", ".figures.figure_d", ("metrics",), "accuracy with the shortcuts trained too"),
            Table("accuracy-shortcut", ".tables.accuracy", ("metrics",), ACCURACY),
        ),
        "Appendix E, initialisation": (
            Figure("figure-e1", ".figures.figure_e1", ("metrics",), "accuracy by the features' draw"),
            Figure(
                "figure-e2",
                ".figures.figure_e2",
                ("metrics",),
                "accuracy by BatchNorm's initialisation",
                "Appendix E.2",
            ),
            Table("accuracy-initialisation", ".tables.accuracy", ("metrics",), ACCURACY),
            Table("failed", ".tables.failed", ("metrics",), "Runs that failed to train"),
        ),
        "Appendix F, random weights": (
            Figure(
                "figure-f",
                ".figures.figure_f",
                ("metrics",),
                "accuracy by number of random weights",
                regimes=("batchnorm", "random-*"),
            ),
            Table("accuracy-random", ".tables.accuracy", ("metrics",), ACCURACY),
        ),
        "Appendices G to I, every network": (
            Figure("figure-g", ".figures.gamma", ("affine",), "distribution of γ"),
            Figure("figure-h", ".figures.beta", ("affine",), "distribution of β"),
            Figure("figure-i", ".figures.off", ("activations",), "how often ReLU channels are off"),
            # By layer: beyond the paper.
            Figure("figure-g-layers", ".figures.gamma_layers", ("affine",), "γ"),
            Figure("figure-h-layers", ".figures.beta_layers", ("affine",), "β"),
            Figure(
                "figure-i-layers", ".figures.off_layers", ("activations",), "how often ReLU channels are off"
            ),
        ),
    },
)

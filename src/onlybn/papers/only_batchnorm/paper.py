"""The reproduced figures and tables of the paper: a record of each, by the report's categories."""

from onlybn.papers import Figure, Paper, Table

METRICS, AFFINE, CLAMPING, ACTIVATIONS = ("metrics",), ("affine",), ("clamping",), ("activations",)
# Titles that several records share, and the sentences of those and of the main figures.
BY_REGIME = "accuracy by trained parameters"
GAMMA = "distribution of γ"
SHARES = "share of γ near 0"
CLAMPED = "drop in accuracy with small γ set to 0"
OFF = "ReLU channels that are off"
OFTEN_OFF = "how often ReLU channels are off"
ACCURACY = "Final accuracy by network and regime"
SAYS = {
    "accuracy with and without γ and β": (
        "Test accuracy by network, with all parameters trained, and with γ fixed at 1 and β at 0."
    ),
    "accuracy by number of BatchNorm parameters": (
        "Test accuracy with only γ and β trained, against the number of BatchNorm parameters."
    ),
    BY_REGIME: "Test accuracy by network, for each choice of trained parameters.",
    GAMMA: "Distribution of γ over all BatchNorm channels, shortcuts included.",
    SHARES: "Share of γ with |γ| < 0.01, over all BatchNorm channels, by network.",
    CLAMPED: "Drop in test accuracy when every γ with |γ| < ε is set to 0, by network.",
    OFF: "Share of ReLU channels that are 0 for more than 99 % of all test images and pixels, by network.",
    ACCURACY: "Final test accuracy of each network and regime: mean ± standard deviation over seeds.",
}


def _main(number: int, module: str, reads: tuple[str, ...], shows: str, *regimes: str) -> Figure:
    """Return the record of a figure of the main text, of these regimes or of all."""
    return Figure(
        f"figure-{number}",
        module,
        reads,
        shows,
        section=f"Figure {number}",
        main=True,
        says=SAYS[shows],
        regimes=regimes,
    )


def _claims(name: str, module: str, shows: str, *, main: bool) -> Table:
    """Return the record of a table of judged claims."""
    kinds = ("affine", "clamping", "activations")
    return Table(
        name,
        module,
        METRICS,
        shows,
        main=main,
        says="Each claim of the paper, with its verdict.",
        if_drawn=kinds,
        judges=True,
    )


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
            _claims("claims", ".tables.claims", "Claims of the paper, judged", main=True),
            _claims(
                "claims-appendices",
                ".tables.claims_appendices",
                "Claims of the paper's appendices, judged",
                main=False,
            ),
            Table(
                "accuracy",
                ".tables.accuracy",
                METRICS,
                ACCURACY,
                "Figure 2",
                main=True,
                says=SAYS[ACCURACY],
            ),
        ),
        "Main text": (
            _main(1, ".figures.accuracy:AFFINE", METRICS, "accuracy with and without γ and β"),
            _main(2, ".figures.accuracy:REGIMES", METRICS, BY_REGIME),
            _main(3, ".figures.figure_3", METRICS, "accuracy by number of BatchNorm parameters", "batchnorm"),
            _main(4, ".figures.distribution:GAMMA", AFFINE, GAMMA),
            _main(5, ".figures.shares:NEAR_ZERO", AFFINE, SHARES),
            _main(6, ".figures.figure_6", CLAMPING, CLAMPED),
            _main(7, ".figures.shares:OFF", ACTIVATIONS, OFF),
            Table(
                "table-1",
                ".tables.table_1",
                ("parameter_counts",),
                "parameter counts",
                main=True,
                says="Parameters of each network: all, BatchNorm's, the output layer's and those of the"
                " shortcuts' convolutions.",
            ),
            Table(
                "near-zero",
                ".tables.near_zero",
                AFFINE,
                "Share of γ near 0, by the sign of β",
                "Figure 5",
                says="Share of BatchNorm channels with γ near 0, split by the sign of β.",
            ),
            Table(
                "dead-relu",
                ".tables.dead_relu",
                ACTIVATIONS,
                f"{OFF}, by position",
                "Figure 7",
                says="Share of ReLU channels that are 0 for more than 99 % of all test images and pixels.",
            ),
        ),
        "Appendix C, VGG": (
            Figure(
                "figure-c2",
                ".figures.accuracy:REGIMES",
                METRICS,
                BY_REGIME,
                "Appendix C",
                says=SAYS[BY_REGIME],
            ),
            Figure("figure-c4", ".figures.distribution:GAMMA", AFFINE, GAMMA, says=SAYS[GAMMA]),
            Figure("figure-c5", ".figures.shares:NEAR_ZERO", AFFINE, SHARES, says=SAYS[SHARES]),
            Figure("figure-c6", ".figures.figure_6", CLAMPING, CLAMPED, says=SAYS[CLAMPED]),
            Figure("figure-c7", ".figures.shares:OFF", ACTIVATIONS, OFF, says=SAYS[OFF]),
            Table("accuracy-vgg", ".tables.accuracy", METRICS, ACCURACY, "Appendix C", says=SAYS[ACCURACY]),
        ),
        "Appendix D, shortcuts": (
            Figure(
                "figure-d",
                ".figures.accuracy:SHORTCUTS",
                METRICS,
                "accuracy with the shortcuts trained too",
                says="Test accuracy by network and by what trains, once with the shortcuts' convolutions.",
            ),
            Table("accuracy-shortcut", ".tables.accuracy", METRICS, ACCURACY, says=SAYS[ACCURACY]),
        ),
        "Appendix E, initialisation": (
            Figure(
                "figure-e1",
                ".figures.initialisation:FEATURES",
                METRICS,
                "accuracy by the features' initialisation",
                says="Test accuracy by network, for each initialisation of convolutions and linear layer.",
            ),
            Figure(
                "figure-e2",
                ".figures.initialisation:BATCHNORM",
                METRICS,
                "accuracy by BatchNorm's initialisation",
                "Appendix E.2",
                says="Test accuracy by network, for each initialisation of γ and β.",
            ),
            Table("accuracy-initialisation", ".tables.accuracy", METRICS, ACCURACY, says=SAYS[ACCURACY]),
            Table(
                "failed",
                ".tables.failed",
                METRICS,
                "Runs that failed to train",
                says="How many runs failed to train, by network, regime and initialisation.",
            ),
        ),
        "Appendix F, random weights": (
            Figure(
                "figure-f",
                ".figures.figure_f",
                METRICS,
                "accuracy by number of random weights",
                says="Test accuracy with K random weights per output channel of each convolution trained.",
                regimes=("batchnorm", "random-*"),
            ),
            Table("accuracy-random", ".tables.accuracy", METRICS, ACCURACY, says=SAYS[ACCURACY]),
        ),
        "Appendices G to I, every network": (
            Figure("figure-g", ".figures.distribution:GAMMA", AFFINE, GAMMA, says=SAYS[GAMMA]),
            Figure(
                "figure-h",
                ".figures.distribution:BETA",
                AFFINE,
                "distribution of β",
                says="Distribution of β over all BatchNorm channels, shortcuts included.",
            ),
            Figure(
                "figure-i",
                ".figures.distribution:OFF",
                ACTIVATIONS,
                OFTEN_OFF,
                says="Distribution over ReLU channels of the share of images and pixels with activation 0.",
            ),
            # By layer: beyond the paper.
            Figure(
                "figure-g-layers",
                ".figures.layers:GAMMA",
                AFFINE,
                "γ",
                says="γ in each layer; not in the paper.",
            ),
            Figure(
                "figure-h-layers",
                ".figures.layers:BETA",
                AFFINE,
                "β",
                says="β in each layer; not in the paper.",
            ),
            Figure(
                "figure-i-layers",
                ".figures.layers:OFF",
                ACTIVATIONS,
                OFTEN_OFF,
                says="How often the activations of ReLU channels are 0, in each layer; not in the paper.",
            ),
        ),
    },
)

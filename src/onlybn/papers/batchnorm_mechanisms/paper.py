"""The reproduced figures and tables of the papers: a record of each, by the report's categories."""

from onlybn.papers import Figure, Paper, Table

METRICS = ("metrics",)
# What claims are judged by where a figure of the study draws it.
IF_DRAWN = (
    *("curve", "inputs", "gradient-shift", "landscape"),
    *("reestimated", "generalisation", "identity", "statistics"),
)


def _figure(
    name: str, reads: tuple[str, ...], shows: str, says: str, section: str = "", *, main: bool = True
) -> Figure:
    """Return the record of a figure, whose module has its name."""
    return Figure(name, f".figures.{name.replace('-', '_')}", reads, shows, section, main=main, says=says)


def _table(
    name: str, module: str, reads: tuple[str, ...], shows: str, says: str, *, main: bool = True
) -> Table:
    """Return the record of a table."""
    return Table(name, f".tables.{module}", reads, shows, main=main, says=says)


def _claims(name: str, module: str, shows: str, says: str, *, main: bool) -> Table:
    """Return the record of a table of judged claims."""
    return Table(name, module, METRICS, shows, main=main, says=says, if_drawn=IF_DRAWN, judges=True)


PAPER = Paper(
    name="batchnorm-mechanisms",
    title="What BatchNorm does",
    about="""\
A reproduction of *Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
Shift* (Ioffe, Szegedy, 2015; `arXiv 1502.03167 <https://arxiv.org/abs/1502.03167>`__) and *How Does Batch
Normalization Help Optimization?* (Santurkar, Tsipras, Ilyas, Madry, 2018; `arXiv 1805.11604
<https://arxiv.org/abs/1805.11604>`__), with what an essay on both adds: networks train with BatchNorm, with
other normalisations and without any, and are recorded while they train.""",
    package=__package__,
    claims=".claims",
    records={
        "Claims": (
            _claims(
                "claims",
                ".tables.claims",
                "Claims of the papers, judged",
                "Each claim of the papers, with its verdict.",
                main=True,
            ),
            _claims(
                "claims-further",
                ".tables.claims_further",
                "Claims about ℓp norms and many learning rates, judged",
                "Each claim about ℓp norms and many learning rates, with its verdict.",
                main=False,
            ),
            _table(
                "accuracy",
                "accuracy",
                METRICS,
                "Final accuracy by network and normalisation",
                "Final test accuracy of each network and normalisation, as a mean over seeds.",
            ),
        ),
        "Sigmoid network": (
            _figure(
                "sigmoid-mlp",
                ("metrics", "inputs"),
                "The network with sigmoids",
                "Accuracy, loss and the inputs of the last hidden layer of a network with sigmoids.",
                "[I] Figure 1",
            ),
            _figure(
                "placement",
                ("metrics", "curve"),
                "BatchNorm before or after the activation",
                "Accuracy with BatchNorm before the activation, after it, and without BatchNorm.",
                "[H] placement",
            ),
        ),
        "Learning rates": (
            _figure(
                "learning-rates",
                ("metrics", "curve"),
                "Accuracy by learning rate",
                "Training and test accuracy at several learning rates, without and with BatchNorm.",
                "[I] Section 4.2",
            ),
            _table(
                "learning-rates-table",
                "learning_rates",
                METRICS,
                "Steps to the plain network's best accuracy",
                "How soon each network reaches the best accuracy of the one without BatchNorm.",
            ),
            _figure(
                "tolerated-rates",
                ("curve",),
                "Learning rates at which a network trains",
                "How well a network trains at each of many learning rates, with BatchNorm and without.",
                "[S] Section 3",
                main=False,
            ),
        ),
        "Internal covariate shift": (
            _figure(
                "noisy-batchnorm",
                ("metrics", "curve", "inputs"),
                "BatchNorm with noise after it",
                "Training accuracy, and how the inputs of layers are distributed and move.",
                "[S] Figure 2",
            ),
            _figure(
                "gradient-shift",
                ("gradient-shift",),
                "Internal covariate shift as change of gradient",
                "How much a layer's gradient changes when the layers before it take their step.",
                "[S] Figure 3",
            ),
        ),
        "Loss landscape": (
            _figure(
                "landscape",
                ("landscape",),
                "Loss and gradient along the gradient",
                "How much loss and gradient vary along the gradient while networks train.",
                "[S] Figure 4",
            ),
            _table(
                "landscape-table",
                "landscape",
                ("landscape",),
                "Loss and gradient along the gradient, early and late",
                "How much loss and gradient vary along the gradient, early and late in training.",
            ),
            _figure(
                "deep-linear",
                ("curve", "landscape", "gradient-shift"),
                "The deep linear network",
                "Loss, landscape and gradient shift of the deep linear network.",
            ),
            _figure(
                "identity",
                ("identity",),
                "What BatchNorm subtracts from a gradient",
                "What BatchNorm subtracts from the gradient that it passes on, and the identity's error.",
                "[S] Theorem 4.1",
            ),
        ),
        "Normalisation over other groups": (
            _figure(
                "batch-size",
                ("generalisation",),
                "Normalisation over groups smaller than a batch",
                "Training loss, test accuracy and the gap by how many images are normalised together.",
                "[H] batch size",
            ),
            _figure(
                "norms",
                ("metrics", "curve", "landscape"),
                "Normalisation by other norms",
                "Accuracy, loss and effective β with normalisation by the ℓ1, ℓ2 and ℓ∞ norm.",
                "[S] Figure 5",
                main=False,
            ),
            _figure(
                "other-norms",
                METRICS,
                "What trains, by normalisation",
                "Final test accuracy by which parameters train, for each normalisation.",
                main=False,
            ),
        ),
        "Evaluation": (
            _figure(
                "evaluation",
                ("statistics",),
                "Evaluation with other statistics",
                "Test accuracy of finished networks by statistics, on clean and on shifted images.",
                "[H] statistics",
            ),
            _table(
                "evaluation-table",
                "evaluation",
                ("statistics",),
                "Evaluation with other statistics",
                "Test accuracy of finished networks by statistics, on clean and on shifted images.",
                main=False,
            ),
            _figure(
                "evaluation-over-time",
                ("reestimated",),
                "Running and re-estimated statistics while training",
                "Test accuracy with running and with re-estimated statistics.",
                "[H] statistics over time",
                main=False,
            ),
        ),
    },
)

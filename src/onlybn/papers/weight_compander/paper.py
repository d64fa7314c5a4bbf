"""The reproduced figures and tables of the paper: a record of each, by the report's categories."""

from onlybn.papers import Figure, Paper, Table

METRICS, WEIGHTS = ("metrics",), ("weights",)


def _figure(
    name: str, module: str, reads: tuple[str, ...], shows: str, says: str, section: str = ""
) -> Figure:
    """Return the record of a figure."""
    return Figure(name, f".figures.{module}", reads, shows, section, main=True, says=says)


def _table(name: str, module: str, shows: str, says: str, section: str = "") -> Table:
    """Return the record of a table of accuracies."""
    return Table(name, f".tables.{module}", METRICS, shows, section, main=True, says=says)


def _methods(number: int, dataset: str) -> Table:
    """Return the record of one of the paper's tables of methods, of a dataset."""
    return _table(
        f"table-{number}",
        "compared:METHODS_OF_OTHERS",
        f"methods compared (the paper: on {dataset})",
        "Final test accuracy without and with the compander, and with other reparametrisations: mean ±"
        " standard deviation over seeds.",
        f"Table {number}",
    )


PAPER = Paper(
    name="weight-compander",
    title="Weight Compander",
    about="""\
A reproduction of *Weight Compander: A Simple Weight Reparameterization for Regularization* (Cakaj, Mehnert,
Yang, 2023; `arXiv 2306.16993 <https://arxiv.org/abs/2306.16993>`__): every weight trains through a function,
w = Ψ(v) = a · arctan(v / b), which moves small weights more and bounds large ones.""",
    package=__package__,
    claims=".claims",
    records={
        "Claims and gains": (
            Table(
                "claims",
                ".tables.claims",
                ("metrics", "removal"),
                "Claims of the paper, judged",
                main=True,
                says="Each claim of the paper, with its verdict.",
                if_drawn=WEIGHTS,
                judges=True,
            ),
            _figure(
                "gains",
                "gains",
                METRICS,
                "Gain over the baseline",
                "Gain in test accuracy of every function over the baseline of its network.",
            ),
            _table(
                "gains-table",
                "gains",
                "Gain over the baseline",
                "Gain in test accuracy of every function over the baseline of its network.",
            ),
            _table(
                "accuracy",
                "accuracy",
                "Final accuracy by network and function",
                "Final test accuracy of each network and function: mean ± standard deviation over seeds.",
            ),
            _table(
                "published",
                "printed",
                "Printed results, judged",
                "The differences that the paper prints, judged by its own means and deviations.",
            ),
        ),
        "The function and its weights": (
            _figure(
                "figure-2",
                "figure_2",
                METRICS,
                "the functions Ψ and their slopes",
                "The functions through which weights train, and their slopes.",
                "Figure 2",
            ),
            _figure(
                "figure-3",
                "weights:WHOLE",
                WEIGHTS,
                "weights of the first convolution",
                "Weights of the first convolution while they train, without and with the compander.",
                "Figure 3",
            ),
            _figure(
                "figure-4",
                "weights:ENLARGED",
                WEIGHTS,
                "weights of the first convolution, enlarged",
                "The same, enlarged: weights of the first convolution, without and with the compander.",
                "Figure 4",
            ),
            _figure(
                "middle-width",
                "widths",
                WEIGHTS,
                "Width of the middle of the weights, by layer",
                "How much wider the middle of each layer's weights ends with the compander.",
            ),
            _figure(
                "learned-parameters",
                "learned",
                WEIGHTS,
                "Learned a and b, by layer",
                "The parameters a and b of each layer where they are learned.",
            ),
        ),
        "Accuracy": (
            _table(
                "table-1",
                "grid",
                "a grid of a and b",
                "Accuracy of the compander by a and b, of seeds that nothing else reports.",
            ),
            _methods(2, "CIFAR-10"),
            _methods(3, "CIFAR-100"),
            _methods(4, "Tiny ImageNet"),
            _methods(5, "ImageNet"),
            _table(
                "table-6",
                "compared:LEARNED",
                "learned a and b",
                "Final test accuracy with fixed a and b, and with learned ones, for each layer (fine) or for"
                " the network (coarse).",
                "Table 6",
            ),
            _table(
                "table-7",
                "compared:FUNCTIONS",
                "other functions",
                "Final test accuracy with arsinh and erf beside arctan.",
                "Table 7",
            ),
        ),
    },
)

"""The figure and tables of one random network with many tasks: a record of each."""

from onlybn.papers import Figure, Paper, Table

METRICS = ("metrics",)

PAPER = Paper(
    name="one-seed",
    title="One random network, many tasks",
    about="""\
The discussion of *Training BatchNorm and Only BatchNorm* (Frankle, Schwab, Morcos, 2021; `arXiv 2003.00152
<https://arxiv.org/abs/2003.00152>`__) suggests that a network whose features stay random is a seed and a few
thousand numbers, and that one seed could carry such numbers for every task. It is measured here, with claims
of our own.""",
    package=__package__,
    claims=".claims",
    records={
        "Claims and tasks": (
            Table(
                "claims",
                ".tables.claims",
                METRICS,
                "Claims, judged",
                main=True,
                says="Each claim, with its verdict.",
                judges=True,
            ),
            Table(
                "tasks",
                ".tables.tasks",
                METRICS,
                "Tasks on shared features and on their own",
                main=True,
                says="Final test accuracy of each task on features that all tasks share and on features of"
                " its own seed, and what is stored for a task.",
            ),
            Figure(
                "bytes",
                ".figures.bytes",
                METRICS,
                "Accuracy against bytes",
                main=True,
                says="Final test accuracy of each task against the bytes that are stored for it.",
            ),
        ),
    },
)

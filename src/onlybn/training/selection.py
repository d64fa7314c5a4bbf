"""Which state of a run is kept: with `select: best` that of the test that was best on validation."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


class Best:
    """The state at the best test so far: that of the highest top-1 on validation, of equal ones the first.

    `row` is what that test recorded of the validation split. Before any test it is of epoch and step 0, and
    `state` is the one before training.
    """

    def __init__(self, state: Mapping[str, Tensor]):
        self.state = {name: tensor.clone() for name, tensor in state.items()}
        self.row: dict[str, Any] = {"epoch": 0, "step": 0, "top_1": -1.0, "learning_rate": None}

    def offer(self, row: dict[str, Any], state: Mapping[str, Tensor]) -> None:
        """Keep a copy of the state of a test if it is better than every earlier one."""
        if row["top_1"] > self.row["top_1"]:
            self.row = row
            for name, tensor in state.items():
                self.state[name].copy_(tensor)

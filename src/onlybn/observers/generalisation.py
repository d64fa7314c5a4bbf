"""Loss and accuracy on both splits as a test computes them, for the gap between training and test images."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from onlybn.observers import probes

if TYPE_CHECKING:
    from onlybn.observers.moment import Moment

Options = probes.EpochOptions
SCHEMA = pa.schema(
    [
        *probes.WHEN,
        ("split", pa.dictionary(pa.int32(), pa.string())),
        *((column, pa.float64()) for column in ("loss", "top_1", "top_5")),
    ]
)


class Recorder(probes.AtEpochs):
    """Records loss and accuracies on training images, not augmented, and on the test split.

    The rows `train` of metrics are means over the steps since the last test, with the statistics of each
    batch or group; here one network, in evaluation mode, is compared with itself.
    """

    name = "generalisation"

    def look(self, moment: "Moment") -> list[dict[str, Any]]:
        """Return a row for each split."""
        probes.assign(moment.network, moment.set)
        training = moment.data.unaugmented(probes.IMAGES)
        splits = {"train": training, "test": moment.data}
        return [self.when(moment) | {"split": name, **moment.score(of)} for name, of in splits.items()]

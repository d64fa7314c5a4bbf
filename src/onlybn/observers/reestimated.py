"""Test accuracy with running statistics, and with statistics re-estimated on the training images.

(Ioffe & Szegedy, Algorithm 2.)
"""

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from onlybn.observers import probes

if TYPE_CHECKING:
    from onlybn.observers.moment import Moment

Options = probes.EpochOptions

SCHEMA = pa.schema(
    [
        *probes.WHEN,
        ("statistics", pa.dictionary(pa.int32(), pa.string())),
        *((column, pa.float64()) for column in ("loss", "top_1", "top_5")),
    ]
)


class Recorder(probes.AtEpochs):
    """Records loss and accuracies on the test split with `running` and with `pooled` statistics.

    `pooled` are the moments of what each layer sees on training images that are not augmented, in batches of
    the run's size (`onlybn.networks.statistics`). A network without running statistics has rows of `running`
    only.
    """

    name = "reestimated"

    def look(self, moment: "Moment") -> list[dict[str, Any]]:
        """Return a row for the running statistics, and one for the pooled ones."""
        from onlybn.networks.state import running_statistics
        from onlybn.networks.statistics import pooled, write

        network = moment.network
        probes.assign(network, moment.set)
        when = self.when(moment)
        rows = [when | {"statistics": "running", **moment.score(moment.data)}]
        if running_statistics(network):
            batches = moment.data.unaugmented(probes.IMAGES).test_batches(moment.run.training.batch_size)
            with moment.arithmetic:
                found = pooled(network, (images for images, _ in batches))
            write(network, found)
            rows.append(when | {"statistics": "pooled", **moment.score(moment.data)})
        return rows

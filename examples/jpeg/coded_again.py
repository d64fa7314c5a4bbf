"""What does JPEG coding do to trained networks? It codes their test images once more, at several qualities.

    python examples/jpeg/coded_again.py DATA_DIR RUN... [--photographs FOLDER]

`DATA_DIR` holds `cifar10/test.parquet`; a `RUN` is the folder of a finished run on `cifar10-jpeg`. With
photographs (an ImageFolder), it also reports how much a first and a second coding change photographs that
were averaged down to 32×32.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from coded import QUALITY, code_all
from PIL import Image

import onlybn
from onlybn.datasets import DATASETS
from onlybn.datasets.cifar10 import load_jpeg

QUALITIES = (95, 85, QUALITY, 50, 25)


@torch.no_grad()
def recognised(network, images, labels):
    """Return whether each image, uint8 (examples, 32, 32, 3), is classified correctly: bool (examples,)."""
    mean, std = (
        torch.tensor(value) for value in (DATASETS["cifar10-jpeg"].mean, DATASETS["cifar10-jpeg"].std)
    )
    batches = torch.from_numpy(images).split(500)
    logits = [network(((batch / 255 - mean) / std).permute(0, 3, 1, 2)) for batch in batches]
    return (torch.cat(logits).argmax(dim=1) == torch.from_numpy(labels)).numpy()


def change(images, others):
    """Return the difference of two arrays of images in grey levels of 255, root mean square."""
    return np.sqrt(((images.astype(float) - others) ** 2).mean())


def downsampled(folder):
    """Return the middle square of every photograph below a folder as uint8 (examples, 32, 32, 3)."""
    photographs = []
    for path in sorted(Path(folder).rglob("*.JPEG")):
        image = Image.open(path).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side))
        photographs.append(np.asarray(square.resize((32, 32), Image.Resampling.BOX)))
    return np.stack(photographs)


def main():
    """Print the change of images (grey levels, root mean square) and of accuracy (percent); save both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("runs", nargs="+", metavar="run", type=Path)
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--table", type=Path, default=Path("jpeg.parquet"))
    arguments = parser.parse_args()

    images, labels = load_jpeg(arguments.data_dir)["test"]
    coded = {quality: code_all(images, quality) for quality in QUALITIES}
    rows = []
    if arguments.photographs:
        originals = downsampled(arguments.photographs)
        first = code_all(originals, shift=0)
        for name, before, after in (
            ("photographs, first coding", originals, first),
            ("photographs, second coding", first, code_all(first)),
        ):
            rows.append({"run": name, "quality": QUALITY, "grey_levels": change(before, after)})
    for folder in arguments.runs:
        network = onlybn.load(folder)
        before = recognised(network, images, labels)
        for quality, others in coded.items():
            after = recognised(network, others, labels)
            lost, gained = before & ~after, after & ~before
            rows.append(
                {
                    "run": "/".join(folder.resolve().parts[-4:]),
                    "quality": quality,
                    "grey_levels": change(images, others),
                    "before": 100 * before.mean(),
                    "after": 100 * after.mean(),
                    "lost": int(lost.sum()),
                    "gained": int(gained.sum()),
                    # Of the accuracy's change, over test images.
                    "standard_error": 100 * (gained.astype(float) - lost).std(ddof=1) / len(labels) ** 0.5,
                }
            )
    table = pd.DataFrame(rows)
    print(table.round(2).to_markdown(index=False))
    table.to_parquet(arguments.table)


if __name__ == "__main__":
    main()

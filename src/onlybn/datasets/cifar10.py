"""CIFAR-10: torchvision's original batches, and a JPEG-coded copy in the Hugging Face image layout."""

import io
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from onlybn.datasets import originals
from onlybn.errors import UserError
from onlybn.files import sha256

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

# The copy that this project's measurements used.
JPEG_FILES = {
    "train": (
        "train.parquet",
        "4c09a9beee973d0ce3990fb8143e21f1e683ae3438174eee264b671281cdf2aa",
        50_000,
    ),
    "test": (
        "test.parquet",
        "e472481325e34a5ff16a1d35196608fb7d15a7e1a961ebb03ae9af672dc2077c",
        10_000,
    ),
}


def load_batches(data_dir: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read `cifar-10-batches-py` below `data_dir`, as `read_original` does."""
    from torchvision.datasets import CIFAR10

    return read_original("cifar10", CIFAR10, data_dir)


def read_original(
    name: str, original: "type[CIFAR10]", data_dir: Path
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read the files of torchvision's class below `data_dir`; it downloads them if their folder is missing.

    Every file is checked against its published MD5 before it is opened, since the batches are pickles.
    Raises UserError that begins with the dataset's name, and names a missing or altered file.
    """
    folder = data_dir / original.base_folder
    if not folder.exists():
        try:
            _unpack(original, data_dir)
        except (OSError, RuntimeError, HTTPException) as error:
            raise UserError(
                f"{name}: {folder} does not exist, and downloading {original.url} failed ({error});"
                " put the unpacked archive there, or set data_dir to the folder that contains it"
            ) from None
    metadata = (original.meta["filename"], original.meta["md5"])
    for file, published in [*original.train_list, *original.test_list, metadata]:
        originals.verify(name, folder / file, published)
    splits = {split: original(data_dir, train=split == "train") for split in ("train", "test")}
    return {split: (read.data, np.array(read.targets)) for split, read in splits.items()}


def _unpack(original: "type[CIFAR10]", data_dir: Path) -> None:
    """Unpack torchvision's archive in `data_dir`, after downloading it there unless it is whole."""
    from torchvision.datasets.utils import check_integrity, download_url, extract_archive

    archive, folder = data_dir / original.filename, data_dir / original.base_folder
    with originals.arriving(data_dir) as temporary:
        if not check_integrity(archive, original.tgz_md5):
            download_url(original.url, temporary, original.filename, original.tgz_md5)
            (temporary / original.filename).replace(archive)
        extract_archive(archive, temporary)
        if not folder.exists():  # another process may have unpacked it meanwhile
            (temporary / original.base_folder).rename(folder)


def load_jpeg(
    data_dir: Path, files: dict[str, tuple[str, str, int]] = JPEG_FILES
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read `cifar10/{train,test}.parquet` below `data_dir`, with columns `img` and `label`.

    `img` is a struct of `bytes` (an encoded image) and `path`; `label` is an integer from 0 to 9. Raises
    UserError that names a missing, truncated or altered file, or one with another layout.
    """
    folder = data_dir / "cifar10"
    # Check both files before decoding either, since decoding takes most of the time.
    read = {
        split: (folder / name, _read_parquet(folder / name, checksum, rows))
        for split, (name, checksum, rows) in files.items()
    }
    return {split: _decode(path, table) for split, (path, table) in read.items()}


def _read_parquet(path: Path, checksum: str, rows: int) -> pa.Table:
    expected = f"expected {rows:,} rows with the columns img (struct of bytes and path) and label"
    if not path.is_file():
        raise UserError(
            f"cifar10-jpeg: {path} is missing; {expected}; set data_dir to its folder's parent, or, since"
            " this copy cannot be downloaded, train on the original with dataset=cifar10"
        )
    try:
        schema = pq.read_schema(path)
        count = pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"cifar10-jpeg: {path} is not a whole Parquet file ({reason}); {expected}") from None
    columns = {field.name: field.type for field in schema}
    image = columns.get("img")
    if (
        image is None
        or not pa.types.is_struct(image)
        or image.get_field_index("bytes") < 0
        or not pa.types.is_integer(columns.get("label", pa.null()))
    ):
        found = ", ".join(f"{name}: {kind}" for name, kind in columns.items())
        raise UserError(f"cifar10-jpeg: {path} has the columns {found}; {expected}")
    if count != rows:
        raise UserError(f"cifar10-jpeg: {path} has {count:,} rows; {expected}")
    if (found := sha256(path)) != checksum:
        raise UserError(
            f"cifar10-jpeg: {path} is altered, or another copy: its SHA-256 is {found}, expected {checksum}"
        )
    return pq.read_table(path, columns=["img", "label"])


def _decode(path: Path, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    images = np.empty((table.num_rows, 32, 32, 3), np.uint8)
    coded = table["img"].combine_chunks().field("bytes")
    for row, data in enumerate(tqdm(coded, desc=f"decoding {path.name}", unit=" images", mininterval=1)):
        try:
            image = Image.open(io.BytesIO(data.as_py()))
            pixels = np.asarray(image.convert("RGB"))
        except (UnidentifiedImageError, OSError, TypeError) as error:
            raise UserError(f"cifar10-jpeg: {path}: row {row} is not an image ({error})") from None
        if image.format != "JPEG" or pixels.shape != (32, 32, 3):
            raise UserError(
                f"cifar10-jpeg: {path}: row {row} is a {image.format} of {image.width}×{image.height};"
                " expected a JPEG of 32×32"
            )
        images[row] = pixels
    return images, table["label"].to_numpy().astype(np.int64)

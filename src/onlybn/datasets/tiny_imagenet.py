"""TinyImageNet's validation split: one folder of photographs, and a file that names the class of each.

The dataset's folder, below `data_dir`, contains `train/<class>/images/*.JPEG`, which
`onlybn.datasets.image_folder` reads, `val/images/*.JPEG` and `val/val_annotations.txt`.
"""

from collections import defaultdict
from pathlib import Path

from onlybn.errors import UserError

ANNOTATIONS, IMAGES = "val_annotations.txt", "images"


def validation_files(name: str, folder: Path) -> dict[str, list[Path]]:
    """Return the photographs of each class below `val`; classes and photographs are sorted by name.

    Each line of `val_annotations.txt` begins with the name of a file and its class, with tabs between.
    Raises UserError if that file is missing or malformed, or names other files than `images` holds.
    """
    path = folder / ANNOTATIONS
    expected = "expected a line for each photograph: file name, tab, class"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(
            f"{name}: {path} cannot be read ({reason}); {expected}; set data_dir to the folder of"
            f" {folder.parent.name}/"
        ) from None
    classes = {}
    for number, line in enumerate(lines, start=1):
        image, *found = line.split("\t")
        if not found or not image or not found[0]:
            raise UserError(f"{name}: {path}: line {number} is {line!r}, {expected}")
        if image in classes:
            raise UserError(f"{name}: {path}: line {number} names {image} again, {expected}")
        classes[image] = found[0]
    present = {file.name for file in (folder / IMAGES).glob("*.JPEG")}
    for odd, where, lacks in (
        (classes.keys() - present, path, folder / IMAGES),
        (present - classes.keys(), folder / IMAGES, path),
    ):
        if odd:
            raise UserError(
                f"{name}: {where} has {len(odd):,} photographs that {lacks} lacks, such as {min(odd)}"
            )
    by_class = defaultdict(list)
    for image, label in sorted(classes.items()):
        by_class[label].append(folder / IMAGES / image)
    return dict(sorted(by_class.items()))

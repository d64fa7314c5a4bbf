"""Damage files of finished runs at random, and check that no damage goes unnoticed.

python tests/tamper.py [--strikes 20] [--seed 0]

Real training: digits, ResNet-8, two regimes, two seeds, with their analyses. Each strike damages a copy of
the study's results in one way: it swaps two runs' folders or copies one over another, or it truncates a file,
flips one of its bits, copies it from another run, or edits one of its values. Then the study is started again
as a user would, without Snakemake's records and without the collected tables that all figures are made from.
A strike is `told` if the start ends with one sentence, `mended` if every table and state is as before,
`harmless` if the file has the same content as before, and a silent difference otherwise. The last line counts
strikes by kind, and silent differences.
"""

import argparse
import json
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
from checkout import Checkout
from safetensors import safe_open
from safetensors.numpy import save_file

from onlybn.files import sha256

STUDY = """
dataset: digits
training: {epochs: 2, batch_size: 128, learning_rate: 0.1, flip: false}
seeds: 2
experiments:
  spoiled: {architectures: [resnet-8], regimes: [all, batchnorm]}
tables: {accuracy: [spoiled]}
"""
COLLECTED = ("runs", "metrics", "affine", "clamping", "activations")
TABLES = [f"results/tiny/experiments/spoiled/{kind}.parquet" for kind in COLLECTED]
TARGET = (*TABLES, "--config", "seeds_per_job=2")


def swap(file: Path, rng: random.Random) -> None:
    """Swap the folders of two runs."""
    one, other = file.parent, _another(file, rng).parent
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def copy_folder(file: Path, rng: random.Random) -> None:
    """Copy a run's folder over another's."""
    other = _another(file, rng).parent
    shutil.rmtree(file.parent)
    shutil.copytree(other, file.parent)


def truncate(file: Path, rng: random.Random) -> None:
    """Cut a file short."""
    content = file.read_bytes()
    file.write_bytes(content[: rng.randrange(len(content))])


def flip(file: Path, rng: random.Random) -> None:
    """Flip one bit of a file."""
    content = bytearray(file.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def copy(file: Path, rng: random.Random) -> None:
    """Copy a file from another run."""
    shutil.copy(_another(file, rng), file)


def edit(file: Path, rng: random.Random) -> None:
    """Change one value of a file, and nothing else."""
    if file.suffix == ".json":
        record = json.loads(file.read_text())
        counts, name = rng.choice(
            [(record["counts"], name) for name in record["counts"]] + [(record, "seed")]
        )
        counts[name] += 1
        file.write_text(json.dumps(record, indent=2))
    elif file.suffix == ".parquet":
        table = pq.read_table(file)
        numeric = [
            n for n, t in zip(table.column_names, table.schema.types, strict=True) if str(t) in NUMBERS
        ]
        place = table.column_names.index(rng.choice(numeric))
        values = table.column(place).to_numpy().copy()
        values[rng.randrange(len(values))] += 1
        changed = table.set_column(place, table.schema.field(place), [values])
        pq.write_table(changed, file, compression="zstd")
    else:
        with safe_open(file, "np") as opened:
            told = opened.metadata()
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        chosen = rng.choice(sorted(tensors))
        tensors[chosen] = tensors[chosen].copy()
        tensors[chosen].reshape(-1)[0] += np.float32(0.5)
        save_file(tensors, file, metadata=told)


NUMBERS = ("int32", "int64", "float", "double")
KINDS: dict[str, Callable[[Path, random.Random], None]] = {
    "swapped": swap,
    "copied over": copy_folder,
    "truncated": truncate,
    "flipped": flip,
    "copied": copy,
    "edited": edit,
}


def _another(file: Path, rng: random.Random) -> Path:
    """Return the file of that name of another run."""
    runs = [run / file.name for run in file.parents[3].glob("*/*/seed-*")]
    return rng.choice(sorted(other for other in runs if other != file))


def digests(checkout: Checkout) -> dict[str, str]:
    """Return the digests of a study's tables and states, of finished runs and of files made from them."""
    found = checkout.digests()
    return {name: value for name, value in found.items() if not name.startswith(("replaced", "work"))}


def strike(whole: Path, expected: dict[str, str], kind: str, rng: random.Random) -> tuple[str, str]:
    """Damage a copy of the results in one way, start the study again, and return the outcome."""
    with TemporaryDirectory() as folder:
        shutil.copytree(whole, folder, dirs_exist_ok=True)
        checkout = Checkout.__new__(Checkout)
        checkout.folder = Path(folder)
        results = checkout.folder / "results" / "tiny"
        file = rng.choice(sorted(path for path in results.glob("runs/*/*/*/*/*") if path.is_file()))
        before = sha256(file)
        KINDS[kind](file, rng)
        what = f"{kind} {file.name} of {'/'.join(file.parts[-5:-1])}"
        if file.exists() and sha256(file) == before:
            return "harmless", what
        done = checkout.snakemake("--cores", "2", *TARGET)
        if done.returncode:
            text = done.stdout + done.stderr
            sentence = text.rpartition("What went wrong:")[2].strip().partition("\n")[0]
            return ("told" if sentence.startswith("error: ") else "no sentence"), f"{what}: {sentence}"
        found = digests(checkout)
        wrong = [name for name in {*expected, *found} if expected.get(name) != found.get(name)]
        if not wrong:
            return "mended", what
        same = wrong == [str(file.relative_to(results))] and kind == "flipped"  # nothing of it is a value
        return ("harmless" if same else "silent difference"), f"{what}: {', '.join(wrong)}"


def main() -> None:
    """Strike each kind so many times; exit with status 1 if any damage went unnoticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--strikes", type=int, default=20, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng, came = random.Random(asked.seed), {kind: Counter() for kind in KINDS}
    with TemporaryDirectory() as folder:
        checkout = Checkout(Path(folder), STUDY)
        checkout.ok(*TARGET)
        expected = digests(checkout)
        shutil.rmtree(checkout.folder / ".snakemake")
        shutil.rmtree(checkout.folder / "results" / "tiny" / "experiments")
        print(f"whole: {len(expected)} tables and state files", flush=True)
        for number in range(asked.strikes):
            for kind in KINDS:
                outcome, what = strike(checkout.folder, expected, kind, rng)
                came[kind][outcome] += 1
                print(f"{number + 1}. {outcome}: {what}", flush=True)
    for kind, outcomes in came.items():
        print(f"{kind}: {', '.join(f'{count} {outcome}' for outcome, count in outcomes.items())}")
    total = sum(came.values(), Counter())
    bad = total["silent difference"] + total["no sentence"]
    kinds = ", ".join(f"{outcomes.total()} {kind}" for kind, outcomes in came.items())
    print(f"{total.total()} strikes ({kinds}): {total['silent difference']} silent differences")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()

"""Writing a finished run's folder, and loading its network.

The files are `metrics.parquet`, `affine.parquet`, a Parquet file for each recording, `state.safetensors`
(only what training changed) and `run.json`. `run.json` has the SHA-256 of the others and is written last, so
it marks a run as finished.
"""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from onlybn import custom
from onlybn.axes import AXES
from onlybn.errors import UserError
from onlybn.files import sha256, write_json, write_table, written_whole
from onlybn.machine import commit, machine, versions
from onlybn.networks import reparametrise
from onlybn.runs.records import RECORD, WRITTEN, check_files, described, read_record, run_of, sealed
from onlybn.runs.schemas import SCHEMAS, columns
from onlybn.study import Run
from onlybn.tensors import check_drawn, fingerprint, read_tensors

if TYPE_CHECKING:
    import torch

    from onlybn.datasets.images import Images
    from onlybn.models.network import Network
    from onlybn.training.loop import Outcome


def save(folder: Path, run: Run, outcome: "Outcome", images: "Images", settings: Mapping[str, Any]) -> None:
    """Write a trained run's folder, `run.json` last.

    `settings` says how it was computed: device, requested and resolved precision, threads, seeds together.
    The rate counts the images of all seeds that trained side by side, since they share the clock.
    """
    from safetensors.torch import save_file

    from onlybn.networks.state import frozen, learned
    from onlybn.runs.affine import affine

    network = outcome.network.cpu()
    (folder / RECORD).unlink(missing_ok=True)  # an old record would not match the new files
    metrics = columns("metrics", in_steps=run.training.unit == "step")
    write_table(folder / "metrics.parquet", pa.Table.from_pylist(outcome.rows, metrics))
    for name, rows in outcome.recorded.items():
        write_table(folder / f"{name}.parquet", pa.Table.from_pylist(rows, SCHEMAS[name]))
    initial = {n: (g.cpu(), b.cpu()) for n, (g, b) in outcome.initial_affine.items()}
    write_table(folder / "affine.parquet", affine(network, initial))
    prints = fingerprint(frozen(network))
    with written_whole(folder / "state.safetensors") as path:
        save_file(
            {name: tensor.contiguous() for name, tensor in learned(network).items()},
            path,
            # A single entry: safetensors writes several in an order that differs between processes.
            metadata={
                "onlybn": json.dumps({"digest": run.digest, "seed": run.seed, "frozen_sums": prints["sums"]})
            },
        )
    taken = max(row["step"] for row in outcome.rows)
    epochs, steps = divmod(taken, run.training.steps_per_epoch(images.examples))
    examples = epochs * run.training.trained_on(images.examples) + steps * run.training.batch_size
    together = len(settings.get("seeds_together", [run.seed]))
    record = {
        **described(run),
        **_custom_facts(run, network, images.size),
        "status": "finished" if outcome.diverged is None else "diverged",
        "diverged_epoch": outcome.diverged,
        "channels": images.channels,
        "classes": images.classes,
        "normalisation": {"mean": images.mean, "std": images.std},
        "dataset_checksum": images.checksum,
        "counts": outcome.network.parameter_counts()
        | {"trainable_parameters": sum(p.numel() for p in outcome.trained.values())},
        "frozen_digest": prints["digest"],
        "computed": dict(settings) | {"resumed": outcome.resumed},
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        "wall_clock": {
            "seconds": round(outcome.seconds, 3),
            "training_images_per_second": round(together * examples / outcome.seconds, 1),
        },
        "files": {
            name: sha256(folder / name)
            for name in (*WRITTEN, *(f"{name}.parquet" for name in outcome.recorded))
        },
    }
    if outcome.recordings:
        record["recordings"] = outcome.recordings
    if run.training.select == "best":
        units = dict.fromkeys(["epoch", run.training.unit])
        record |= {f"selected_{unit}": outcome.rows[-1][unit] for unit in units}
    write_json(folder / RECORD, sealed(record))


def custom_names(run: Run) -> list[str]:
    """Return the names of custom code that a run's network needs."""
    return [name for name in (run.value(axis) for axis in AXES) if custom.is_custom(name)]


def custom_code(folder: Path) -> list[str]:
    """Return the names of custom code that a finished run's network needs; none of it is run."""
    return custom_names(_recorded_run(folder, read_record(folder)))


def _custom_facts(run: Run, network: "Network", size: int) -> dict[str, Any]:
    """Return what the record of a run with custom code has in addition: its sources and its architecture."""
    names = custom_names(run)
    if not names and not custom.is_custom(run.dataset):
        return {}
    placed = asdict(network.architecture)
    del placed["name"]
    return {"own": {"sources": [custom.source(name) for name in names], "size": size, **placed}}


def load(folder: str | Path, *, trust: bool = False) -> "Network":
    """Return a finished run's trained network, on the CPU and in evaluation mode.

    A custom architecture or regime is imported, and so run, from the folder in `run.json`, but only with
    `trust`; without it such a run raises UserError. If its file has changed, this warns.

    Frozen weights are drawn again from the seed. If they differ in any bit from those of training, this warns
    if the sum of every tensor agrees to 1e-5 (another processor or library may round a draw differently), and
    otherwise raises UserError. It also raises UserError for a folder without a complete run, or with the
    state of another run.
    """
    from onlybn.networks import parametrisations
    from onlybn.networks.state import frozen, learned

    folder = Path(folder)
    record = read_record(folder)
    run = _recorded_run(folder, record)
    check_files(folder, record, ["state.safetensors"])
    state, facts = _read_state(folder)
    if names := custom_names(run):
        for changed in _find_code_again(folder, record, names, trust):
            warnings.warn(f"the file of {changed} has changed since {folder} was trained", stacklevel=2)
    network = _drawn(folder, record, run)
    path = folder / "state.safetensors"
    wanted = learned(network)
    if (facts["digest"], facts["seed"]) != (run.digest, run.seed) or {
        n: (t.shape, t.dtype) for n, t in state.items()
    } != {n: (t.shape, t.dtype) for n, t in wanted.items()}:
        raise UserError(f"{path} is not the state of the run that {folder / 'run.json'} describes")
    if record["status"] == "finished" and not all(tensor.isfinite().all() for tensor in state.values()):
        raise UserError(
            f"{path} has values that are not finite, but the run is recorded as finished;"
            f" delete {folder} to train the run again"
        )
    expected = {"digest": record["frozen_digest"], "sums": facts["frozen_sums"]}
    check_drawn(frozen(network), expected, of=str(folder), seed=run.drawn_from, then=record.get("machine"))
    for name, tensor in wanted.items():
        tensor.copy_(state[name])
    reparametrise.settle(network)
    parametrisations.settle(network)
    return network.eval()


def _recorded_run(folder: Path, record: Mapping[str, Any]) -> Run:
    """Return the run that a record describes; raise UserError if its digest does not match."""
    from onlybn.datasets import known

    path = folder / "run.json"
    try:
        run = run_of(record)
        images = known(run.dataset)
        right = run.digest == record["digest"] and 0 <= run.seed < 2**63
        if not custom.is_custom(run.dataset):
            right = right and (images.channels, images.classes) == (record["channels"], record["classes"])
    except (KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is damaged ({reason}); delete {folder} to train the run again") from None
    if not right:
        raise UserError(f"{path} was altered: its specification does not match its digest")
    return run


def _find_code_again(
    folder: Path, record: Mapping[str, Any], names: Sequence[str], trust: bool
) -> Iterator[str]:
    """Let this process import the custom code that a record names; yield the modules that have changed."""
    path = folder / "run.json"
    if not trust:
        raise UserError(
            f"{path} names code that is not part of this package ({', '.join(map(repr, names))}), and loading"
            " runs that code; allow it with trust=True (--trust) if you trust the author of the run"
        )
    sources, size = record["own"]["sources"], record["own"]["size"]
    if not (type(size) is int and size > 0):
        raise UserError(f"{path} is damaged (own); delete {folder} to train the run again")
    yield from custom.find_again(sources)


def _drawn(folder: Path, record: Mapping[str, Any], run: Run) -> "Network":
    """Return the network of a recorded run as it was before training."""
    from onlybn.networks.draw import draw

    try:
        size = image_size(record)
        for axis in AXES:
            axis.check(run.value(axis))
        network, _ = draw(run, channels=record["channels"], classes=record["classes"], size=size)
        return network
    # What torch, NumPy and the draws raise for numbers too large for a tensor or for memory, or for 0.
    except (ValueError, TypeError, LookupError, RuntimeError, ArithmeticError, MemoryError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder / 'run.json'}: its network cannot be built here ({reason})") from error


def image_size(record: Mapping[str, Any]) -> int:
    """Return the height and width of a recorded run's images, in pixels."""
    from onlybn.datasets import known

    return record["own"]["size"] if "own" in record else known(record["dataset"]).size


def _read_state(folder: Path) -> tuple[dict[str, "torch.Tensor"], dict[str, Any]]:
    """Return the tensors of a run's state, and its metadata: the run's digest and seed, and the sums."""
    from safetensors import SafetensorError

    path = folder / "state.safetensors"
    try:
        state, facts = read_tensors(path)
        sums = [float(value) for value in facts["frozen_sums"]]
        return state, {"digest": facts["digest"], "seed": facts["seed"], "frozen_sums": sums}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is damaged ({reason}); delete {folder} to train the run again") from None

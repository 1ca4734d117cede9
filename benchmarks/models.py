"""python -m benchmarks.models FOLDER RUN …: the table of models, from finished runs.

FOLDER is a data_root; each RUN was trained and evaluated. Weights, losses, bounds and CPU time are those that the runs
have written.
"""

import argparse
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from vae_mnist import load_model
from vae_mnist.measures.measured import Measured
from vae_mnist.project.record import RunRecord

from .tables import table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("runs", nargs="+")
    arguments = parser.parse_args()
    header = ["run", "weights", "epochs", "CPU minutes", "negative ELBO", "NLL", "of it k, images"]
    print(table(header, (row(arguments.folder, run) for run in arguments.runs)))


def row(folder: Path, run: str) -> list[str]:
    """One line."""
    newest = sorted((folder / "06_models" / run).glob("vae_epoch_*.pt"))[-1]
    outputs = folder / "07_model_output" / run
    records = TypeAdapter(list[RunRecord]).validate_json((outputs / "run_record.json").read_bytes())
    measured = TypeAdapter(list[Measured]).validate_json((outputs / "metrics.json").read_bytes())
    bound = last(measured, "importance_weighted_nll")
    return [
        run,
        f"{sum(weight.numel() for weight in load_model(newest).parameters()):,}",
        f"{int(newest.stem.rpartition('_')[2])}",
        f"{sum(record.cpu_seconds or 0 for record in records if trained(record)) / 60:.1f}",
        f"{last(measured, 'neg_elbo').value:.2f}",
        f"{bound.value:.2f} ± {bound.standard_error:.2f}",
        f"{bound.settings['samples']}, {bound.settings['images']:,}",
    ]


def last(measured: list[Measured], name: str) -> Any:
    """The last one of that name: of the pixels that bounds are measured on."""
    return [each for each in measured if each.name == name][-1]


def trained(record: RunRecord) -> bool:
    """Whether a run has trained: the whole pipeline, or train among others."""
    return record.exit == "finished" and bool({"__default__", "train"} & {*record.pipelines})


if __name__ == "__main__":
    main()

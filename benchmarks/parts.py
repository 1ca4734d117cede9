"""The parts of the benchmark; each gives its figures (JSON) and their Markdown."""

import csv
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from vae_mnist.cli import SPINS
from vae_mnist.data.images import RawImages
from vae_mnist.project.lock import LOCK

from .digits import lay_out
from .processes import ROOT, Cost, contestant, run
from .tables import spread, table

NAMES = {
    "origin": "1. `torchvision.datasets.MNIST`, `ToTensor`, `DataLoader`, Adam",
    "pythae_trainer": "2. pythae, its own trainer",
    "ours": "3. ours",
    "ours:compiled": "3. ours, compiled",
    "ours:float32": "3. ours, float32",
    "ours:float32:compiled": "3. ours, float32, compiled",
    "jax_scan": "4. JAX, one compiled scan an epoch, optax",
    "jax_scan:bfloat16": "4. JAX, products in bfloat16",
    "floor": "5. the matrix products alone, float32 by MKL",
    "floor:onednn": "5. the matrix products alone, float32 by oneDNN",
    "floor:bfloat16": "5. the matrix products alone, bfloat16",
    "launches": "6. ours with minimal kernel work: the overhead",
    "copies": "7. ours, drawing batches and Adam's update alone",
}
CONVOLUTIONAL = {
    "pythae_trainer:conv": "2. pythae, its own trainer",
    "ours:conv": "3. ours",
    "ours:conv:compiled": "3. ours, compiled",
    "ours:conv:float32": "3. ours, float32",
    "jax_scan:conv": "4. JAX, one compiled scan an epoch, optax",
}
FLOORS = ("floor", "launches", "copies")  # learn nothing
TARGET, EPOCHS = 103.0, 20  # the recipe that all began with comes near it in so many


@dataclass(frozen=True)
class Settings:
    """What was asked for on the command line."""

    raw: RawImages
    digits: Path  # laid out
    rounds: int
    contestants: tuple[str, ...]
    device: str
    say: Callable[[str], None]


Result = tuple[dict[str, Any], str]


def epoch(settings: Settings) -> Result:
    """Seconds of one epoch's training pass; all contestants are loaded and take turns, in alternating order."""
    return _epochs(settings, {name: NAMES[name] for name in settings.contestants}, "ours")


def convolutions(settings: Settings) -> Result:
    """The same for the convolutional network of `conf/conv`."""
    asked = {name.partition(":")[0] for name in settings.contestants} | {"ours"}
    chosen = {name: words for name, words in CONVOLUTIONAL.items() if name.partition(":")[0] in asked}
    return _epochs(settings, chosen, "ours:conv")


def _epochs(settings: Settings, names: Mapping[str, str], reference: str) -> Result:
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        all_ = {name: stack.enter_context(contestant(name, settings.digits, settings.device)) for name in names}
        for name, each in all_.items():
            each.answer()
            each.ask("epoch")  # compiles, allocates, warms up
            settings.say(f"{name} is ready")
        for number in range(settings.rounds):
            for name in names if number % 2 == 0 else reversed([*names]):
                seconds[name].append(all_[name].ask("epoch")[0])
                settings.say(f"round {number + 1}: {name} {seconds[name][-1]:.2f} s")
    ours = median(seconds[reference])
    rows = [[names[name], *spread(values), f"{median(values) / ours:.2f}"] for name, values in seconds.items()]
    header = ["contestant", "seconds, median", "smallest - largest", "median / ours"]
    return {"seconds": seconds}, table(header, rows)


def target(settings: Settings) -> Result:
    """Seconds from process start to a test loss of 103.0 or the end of epoch 20, evaluation after each epoch included.

    The preset is the whole process `kedro run --env=fast --pipelines=ingest,train`, three seeds.
    """
    results: dict[str, Any] = {}
    for name in settings.contestants:
        if name.partition(":")[0] in FLOORS:
            continue
        started = time.perf_counter()
        with contestant(name, settings.digits, settings.device) as each:
            each.answer()
            losses: list[float] = []
            while not losses or (losses[-1] > TARGET and len(losses) < EPOCHS):
                each.ask("epoch")
                losses.append(each.ask("test"))
            results[NAMES[name]] = {"seconds": time.perf_counter() - started, "test_losses": losses}
            settings.say(f"{name}: {losses[-1]:.2f} after {len(losses)} epochs")
    with TemporaryDirectory() as folder:
        for seed in (0, 1, 2):
            places = f"data_root={folder}/{seed}/data,mnist_root={settings.digits},train.device={settings.device}"
            command = [sys.executable, "-m", "kedro", "run", "--env=fast", "--pipelines=ingest,train"]
            cost = run([*command, f"--params={places},train.seed={seed}"], ROOT)
            losses = history_of(Path(folder, str(seed)), "fast", "test_loss")
            results[f"3. ours, `kedro run --env=fast`, seed {seed}"] = {
                "seconds": cost.wall_seconds,
                "test_losses": losses,
            }
            settings.say(f"fast, seed {seed}: {losses[-1]:.2f}, {cost.wall_seconds:.1f} s")
    slowest = max(each["seconds"] for each in results.values())
    rows = [
        [
            name,
            f"{each['seconds']:.1f}",
            f"{each['seconds'] / slowest:.3f}",
            str(len(each["test_losses"])),
            f"{each['test_losses'][-1]:.2f}",
        ]
        for name, each in results.items()
    ]
    return results, table(["contestant", "seconds", "of the slowest", "epochs", "test loss"], rows)


def commands(settings: Settings) -> Result:
    """Wall and CPU seconds and peak memory of whole processes: the default run, its report, and `kedro --help`.

    Linux includes the parent's memory in a child's peak, so peaks below that of the benchmark itself are not known.
    """
    costs: dict[str, list[Cost]] = {}
    parts: dict[str, list[float]] = {}
    with TemporaryDirectory() as folder:
        data = f"data_root={folder}/data,mnist_root={settings.digits},train.device={settings.device}"
        empty = empty_project(Path(folder) / "empty")
        kedro = [sys.executable, "-m", "kedro"]
        for number in range(settings.rounds):
            tasks = {
                "kedro run": ([*kedro, "run", f"--params={data},run=round{number}"], ROOT),
                "kedro run --pipelines=report": (
                    [*kedro, "run", "--pipelines=report", f"--params={data},run=round{number}"],
                    ROOT,
                ),
                "kedro --help": ([*kedro, "--help"], ROOT),
                "kedro --help in an empty project": ([*kedro, "--help"], empty),
            }
            for name, (command, where) in tasks.items():
                costs.setdefault(name, []).append(run(command, where))
                settings.say(f"round {number + 1}: {name} {costs[name][-1].wall_seconds:.1f} s")
                if name == "kedro run":
                    took = parts_of_run(Path(folder), f"round{number}", costs[name][-1].wall_seconds)
                    parts = {part: [*parts.get(part, []), seconds] for part, seconds in took.items()}
    figures = {
        name: [[cost.wall_seconds, cost.cpu_seconds, cost.peak_megabytes] for cost in each]
        for name, each in costs.items()
    }
    rows = []
    for name, each in figures.items():
        wall, cpu, peak = (median(values) for values in zip(*each, strict=True))
        known = peak > 1.05 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        rows.append([name, f"{wall:.2f}", f"{cpu:.2f}", f"{peak:.0f}" if known else ""])
    rows += [[f"of `kedro run`: {part}", f"{median(seconds):.2f}", "", ""] for part, seconds in parts.items()]
    header = ["command", "wall seconds, median", "CPU seconds", "peak MB"]
    return {"commands": figures, "parts": parts}, table(header, rows)


def start(settings: Settings) -> Result:
    """CPU seconds of processes: until the first training step, and what PyTorch and Kedro take of them."""
    printed = "import time; print('CPU seconds', time.process_time())"
    seconds: dict[str, list[float]] = {}
    with TemporaryDirectory() as folder:
        empty = empty_project(Path(folder) / "empty")
        data = f"data_root={folder}/data,mnist_root={settings.digits},train.epochs=1,train.device={settings.device}"
        for number in range(settings.rounds):
            run_it = ["run", "--pipelines=ingest,train", f"--params={data},run=round{number}"]
            tasks = {
                "`kedro run`, to its first training step": (["-m", "benchmarks.start", *run_it], ROOT),
                "`import torch`": (["-c", f"import torch; {printed}"], ROOT),
                "`kedro run` in an empty project, to its first node": (["-m", "kedro", "run"], empty),
                "`import torch._dynamo`, as PyTorch's optimizers do, after `import torch`": (
                    ["-c", f"import time, torch; b = time.process_time(); import torch._dynamo; {printed[:-1]} - b)"],
                    ROOT,
                ),
            }
            for name, (arguments, where) in tasks.items():
                output = run([sys.executable, *arguments], where).output
                seconds.setdefault(name, []).append(float(re.findall(r"CPU seconds\D* (\d\S*)", output)[0]))
                settings.say(f"round {number + 1}: {name} {seconds[name][-1]:.2f} s")
    whole, *parts = (median(values) for values in seconds.values())
    rows = [[name, *spread(values)] for name, values in seconds.items()]
    rows.append(["`kedro run` beyond `import torch` and an empty project", f"{whole - sum(parts[:2]):.2f}", ""])
    return seconds, table(["process", "CPU seconds, median", "smallest - largest"], rows)


def quality(settings: Settings) -> Result:
    """CPU minutes of the whole process `kedro run --env=quality --pipelines=ingest,train`, with one thread."""
    with TemporaryDirectory() as folder:
        places = f"data_root={folder}/data,mnist_root={settings.digits},train.device={settings.device}"
        command = [sys.executable, "-m", "kedro", "run", "--env=quality", "--pipelines=ingest,train"]
        cost = run([*command, f"--params={places},train.threads=1"], ROOT)
        loss = history_of(Path(folder), "quality", "test_neg_elbo")[-1]
    row = [f"{cost.cpu_seconds / 60:.1f}", f"{cost.wall_seconds / 60:.1f}", f"{loss:.2f}"]
    header = ["CPU minutes", "minutes", "negative ELBO of the test digits, nats per image"]
    return {"cpu_seconds": cost.cpu_seconds, "wall_seconds": cost.wall_seconds, "neg_elbo": loss}, table(header, [row])


def evaluation(settings: Settings) -> Result:
    """Importance-weighted NLL of the test digits: posterior samples measured per second, and what bounds them."""
    ways = {"evaluation": "ours", "evaluation:float32": "ours, float32"}
    orders = {"50": "k = 50", "5000": "k = 5000", "products": "the decoder's matrix products alone"}
    speeds: dict[str, list[float]] = {}
    with ExitStack() as stack:
        all_ = {
            way: stack.enter_context(contestant(name, settings.digits, settings.device)) for name, way in ways.items()
        }
        for each in all_.values():
            each.answer()
        for _ in range(settings.rounds):
            for way, each in all_.items():
                for order, words in orders.items():
                    speeds.setdefault(f"{way}: {words}", []).append(each.ask(order))
    rows = [[name, *spread([value / 1e3 for value in values], 0)] for name, values in speeds.items()]
    return speeds, table(["", "thousand samples a second, median", "smallest - largest"], rows)


def size(settings: Settings) -> Result:
    """Epochs of ours on 1, 2, 4 and 10 copies of the training digits, alternating, and the peak memory of each process.

    Each turn has 10, 5, 2 or 1 epochs, so that changes in the machine's speed affect all sizes equally.
    """
    results: dict[int, dict[str, Any]] = {}
    with TemporaryDirectory() as folder, ExitStack() as stack:
        all_ = {}
        for copies in (1, 2, 4, 10):
            digits = lay_out(settings.raw, Path(folder) / str(copies), copies)
            count = copies * len(settings.raw.train["labels"])
            all_[count] = copies, stack.enter_context(contestant("ours", digits, settings.device))
            all_[count][1].answer()
            all_[count][1].ask("epoch")
            results[count] = {"seconds": []}
        for _ in range(settings.rounds):
            for count, (copies, each) in all_.items():
                turn = [each.ask("epoch")[0] for _ in range(10 // copies)]
                results[count]["seconds"].append(sum(turn) / len(turn))
                settings.say(f"{count:,} digits: {results[count]['seconds'][-1]:.2f} s")
        for count, (_, each) in all_.items():
            results[count]["peak_megabytes"] = each.peak_megabytes()
    rows = []
    for count, figures in results.items():
        a_digit = [seconds / count * 1e6 for seconds in figures["seconds"]]
        rows.append(
            [f"{count:,}", spread(figures["seconds"])[0], *spread(a_digit, 1), f"{figures['peak_megabytes']:.0f}"]
        )
    header = ["digits", "seconds an epoch", "microseconds a digit", "smallest - largest", "peak MB"]
    return {str(count): figures for count, figures in results.items()}, table(header, rows)


def empty_project(folder: Path) -> Path:
    """The least that is a Kedro project."""
    package = folder / "src" / "empty"
    package.mkdir(parents=True)
    (folder / "conf" / "base").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        '[tool.kedro]\npackage_name = "empty"\nproject_name = "empty"\nkedro_init_version = "1.7.0"\n'
        'source_dir = "src"\n'
    )
    for name in ("__init__", "settings"):
        (package / f"{name}.py").touch()
    (folder / "conf" / "local").mkdir()
    for name in ("catalog", "parameters"):
        (folder / "conf" / "base" / f"{name}.yml").write_text("{}\n")
    (package / "pipeline_registry.py").write_text(
        "import time\n\nfrom kedro.pipeline import Node, Pipeline\n\n\n"
        "def say(parameters):\n    print('CPU seconds', time.process_time(), flush=True)\n    return parameters\n\n\n"
        "def register_pipelines():\n    return {'__default__': Pipeline([Node(say, 'parameters', 'same')])}\n"
    )
    return folder


def neighbour(settings: Settings) -> Result:
    """An epoch of ours, alone and beside busy processes of one thread each, as its threads wait for each other."""
    ways = {
        "PyTorch's own": {},
        f"`GOMP_SPINCOUNT={SPINS}`, as `kedro run` has it": {"GOMP_SPINCOUNT": SPINS},
        "`OMP_WAIT_POLICY=passive`": {"OMP_WAIT_POLICY": "passive"},
        "one thread, which has nobody to wait for": {"TRAIN_THREADS": "1"},
    }
    seconds: dict[str, dict[str, list[float]]] = {way: {} for way in ways}
    with ExitStack() as stack:
        all_ = {
            way: stack.enter_context(contestant("ours", settings.digits, settings.device, environment))
            for way, environment in ways.items()
        }
        for each in all_.values():
            each.answer()
            each.ask("epoch")
        for _ in range(settings.rounds):
            for busy in (0, 1, 2):
                with neighbours(busy):
                    for way, each in all_.items():
                        seconds[way].setdefault(str(busy), []).append(each.ask("epoch")[0])
                        settings.say(f"{way}, {busy} neighbours: {seconds[way][str(busy)][-1]:.2f} s")
    rows = [[way, *(spread(values)[0] for values in each.values())] for way, each in seconds.items()]
    header = ["waiting of threads", "alone", "beside one", "beside two"]
    return seconds, table(header, rows)


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that never rest."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for each in busy:
            each.kill()
            each.wait()


def processes(settings: Settings) -> Result:
    """Three epochs in processes started by torchrun: seconds of a training pass, and of the whole command."""
    results: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        base = f"data_root={folder}/data,mnist_root={settings.digits},train.device={settings.device},train.epochs=3"
        run([sys.executable, "-m", "kedro", "run", "--pipelines=ingest", f"--params={base}"], ROOT)
        for number in range(settings.rounds):
            for count in (1, 2):
                torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
                name = f"n{count}-{number}"
                project = ["-m", "vae_mnist", "--pipelines=train", f"--params={base},run={name}"]
                cost = run([*torchrun, *project], ROOT)
                each = results.setdefault(str(count), {"epoch": [], "whole": []})
                each["epoch"] += history_of(Path(folder), name, "seconds")[1:]
                each["whole"].append(cost.wall_seconds)
    rows = [[count, *spread(each["epoch"]), f"{median(each['whole']):.1f}"] for count, each in results.items()]
    return results, table(["processes", "seconds an epoch", "smallest - largest", "whole command"], rows)


def parts_of_run(folder: Path, run_name: str, wall_seconds: float) -> dict[str, float]:
    """Seconds of what a run that has just ended did one after the other, as its files' times say."""
    data, ended = folder / "data", time.time()
    models = data / "06_models" / run_name
    began = (models / LOCK).stat().st_mtime  # taken as the first node is about to run
    digits = (data / "05_model_input" / "data_card.json").stat().st_mtime
    trained = max(path.stat().st_mtime for path in models.iterdir())
    return {
        "start": began - (ended - wall_seconds),
        "ingest": digits - began,
        "training, with test losses and checkpoints": trained - digits,
        "the training passes alone": sum(history_of(folder, run_name, "seconds")),
        "evaluation, report and end": ended - trained,
        "all but ingest and training": wall_seconds - (trained - began),
    }


def history_of(folder: Path, run_name: str, column: str) -> list[float]:
    """A column of a run's history."""
    with (folder / "data" / "07_model_output" / run_name / "history.csv").open(encoding="utf-8") as file:
        return [float(row[column]) for row in csv.DictReader(file)]

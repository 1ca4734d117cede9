"""Training in several processes: started by the training node, or by torchrun on one machine or many."""

import json
import logging
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from .. import errors
from ..config.parameters import ModelConfig, ObjectiveConfig, TrainConfig
from ..data.images import Digits, check_data_card, digits_sha256
from ..errors import DataError, VaeMnistError, WorkerError, WriteError
from ..storage.atomic import atomic_write
from ..storage.checkpoints import Checkpoint, checkpoint_name, read_checkpoint, write_checkpoint
from .batches import progress_bar
from .loop import Progress, TrainingState, restore, snapshot, start, train
from .machine import resolve_device, resolve_precision
from .resume import run_settings
from .team import ALONE, Team, join_team, launched

JOB, CHECKPOINT, ERROR = "job.json", "start.pt", "error.json"
LOOK_SECONDS = 0.05

_led = threading.Event()  # this process has told torchrun's others what to train


class Job(NamedTuple):
    """What a process must know to train along (JSON)."""

    model: dict[str, Any]
    objective: dict[str, Any]
    train: dict[str, Any]
    files: dict[str, str]  # split -> safetensors file of its digits, on every machine at the same place
    data_card: dict[str, Any]

    def groups(self) -> tuple[ModelConfig, ObjectiveConfig, TrainConfig]:
        """The parameters as classes."""
        return ModelConfig(**self.model), ObjectiveConfig(**self.objective), TrainConfig(**self.train)

    def settings(self) -> dict[str, Any]:
        """Those that a checkpoint carries."""
        model, objective, config = self.groups()
        return run_settings(model=model, objective=objective, train=config)


def train_in_processes(job: Job, checkpoint: Checkpoint | None, count: int) -> Iterator[Path]:
    """Train in `count` processes of this machine.

    Args:
        job: what to train.
        checkpoint: to go on from, if any.
        count: how many processes.

    Yields:
        The checkpoint of each epoch; the file is gone once the next one is asked for.

    Raises:
        WorkerError: a process died; with its traceback.
        WriteError: there is no room for what they hand to each other.
        VaeMnistError: what a process raised.
    """
    with _shared_folder(job) as folder:
        if checkpoint is not None:
            write_checkpoint(checkpoint, folder / CHECKPOINT)
        failures: list[BaseException] = []
        launcher = threading.Thread(target=_launch, args=(folder, count, failures), daemon=True)
        launcher.start()
        while launcher.is_alive() or any(folder.glob("vae_epoch_*.pt")):
            for path in sorted(folder.glob("vae_epoch_*.pt")):
                yield path
                path.unlink()
            time.sleep(LOOK_SECONDS)
        if failures:
            raise _plain(failures[0], folder)


@record
def work(folder: Path, parent: int) -> None:
    """Be one of the processes of `train_in_processes`.

    Args:
        folder: that it shares with them.
        parent: number of the process that started them.
    """
    threading.Thread(target=_end_with, args=(folder, parent), daemon=True).start()
    try:
        job = Job(*json.loads((folder / JOB).read_text(encoding="utf-8")))
        checkpoint = read_checkpoint(folder / CHECKPOINT) if (folder / CHECKPOINT).exists() else None
        with join_team() as team:
            for state in _epochs(job, checkpoint, team):
                if team.rank == 0:
                    while any(folder.glob("vae_epoch_*.pt")):  # one at a time: the disk may be slower than training
                        time.sleep(LOOK_SECONDS)
                    name = f"{checkpoint_name(state.epoch)}.pt"
                    write_checkpoint(snapshot(state, job.settings(), job.data_card), folder / name)
    except Exception as error:
        if not _wanted(folder):  # another process has left a moment earlier, or the folder to write to has gone
            _leave(folder)
        if isinstance(error, VaeMnistError):
            with atomic_write(folder / ERROR) as temporary:  # several processes may raise it at once
                temporary.write_text(json.dumps([type(error).__name__, str(error)]), encoding="utf-8")
        raise


@contextmanager
def leading(job: Job | None, checkpoint: Checkpoint | None = None) -> Iterator[Team]:
    """Be the first of torchrun's processes, if it has started any, and tell the others what to train.

    Args:
        job: None if there is nothing to train.
        checkpoint: to go on from, if any.
    """
    if not launched():
        yield ALONE
        return
    _led.set()
    with join_team() as team:
        team.from_first(json.dumps(job).encode())
        team.from_first(_as_bytes(checkpoint))
        yield team


def dismiss() -> None:
    """Tell torchrun's other processes, if there are any that have not been led, that nothing is left to train."""
    if not _led.is_set():
        with leading(None):
            pass


@record
def follow() -> None:
    """Be another of torchrun's processes: train along until the first is done."""
    with join_team() as team:
        job = json.loads(team.from_first(b""))
        checkpoint = _from_bytes(team.from_first(b""))
        for _ in _epochs(Job(*job), checkpoint, team) if job is not None else ():
            pass


def _epochs(job: Job, checkpoint: Checkpoint | None, team: Team) -> Iterator[TrainingState]:
    """Train along with the team, one state an epoch."""
    model, objective, config = job.groups()
    device = resolve_device(config.device)
    if str(device) == "cuda":  # none in particular
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    precision = resolve_precision(config.precision, device)
    images = _mapped_images(job, team)
    state = start(model, config, images["train"], device, precision)
    if checkpoint is not None:
        restore(state, checkpoint)
    images = {split: each.to(device) for split, each in images.items()}
    progress: Progress = progress_bar if team.rank == 0 else lambda batches, _: batches
    yield from train(state, images, objective, config, precision, progress, team)


def _mapped_images(job: Job, team: Team) -> dict[str, torch.Tensor]:
    """(N, C, H, W) uint8 a split, mapped from its file: processes of one machine share a copy, and read their parts.

    Raises:
        DataError: a file is not there, or holds other digits.
    """
    card, images = check_data_card(job.data_card), {}
    for split, file in job.files.items():
        if team.rank and split != "train":  # the first process measures
            continue
        try:
            digits = cast("Digits", load_file(file))
            found = digits_sha256(digits)
        except (OSError, KeyError, SafetensorError) as error:
            raise DataError(f"process {team.rank}: {file}: expected the {split} digits, but: {error}.") from error
        if found != card["sha256"][split]:
            raise DataError(
                f"process {team.rank}: {file}: expected the {split} digits of the data card (sha256 "
                f"{card['sha256'][split][:12]}…), found {found[:12]}…. Every machine needs them at this place."
            )
        images[split] = digits["images"]
    return images


@contextmanager
def _shared_folder(job: Job) -> Iterator[Path]:
    """A folder for what processes hand to each other; they end when the job in it goes."""
    with _temporary_folder() as folder:
        with atomic_write(folder / JOB) as temporary:
            temporary.write_text(json.dumps(job), encoding="utf-8")
        try:
            yield folder
        finally:
            (folder / JOB).unlink(missing_ok=True)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    try:
        folder = Path(tempfile.mkdtemp(prefix="vae_mnist-"))
    except OSError as error:
        raise WriteError(
            f"training processes hand each other files in a temporary folder, and it cannot be made: {error}. Make "
            "room there, or name another place in the environment variable TMPDIR, and type the same command again."
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_bytes(checkpoint: Checkpoint | None) -> bytes:
    if checkpoint is None:
        return b""
    with _temporary_folder() as folder:
        write_checkpoint(checkpoint, folder / CHECKPOINT)
        return (folder / CHECKPOINT).read_bytes()


def _from_bytes(content: bytes) -> Checkpoint | None:
    if not content:
        return None
    with _temporary_folder() as folder:
        (folder / CHECKPOINT).write_bytes(content)
        return read_checkpoint(folder / CHECKPOINT)


def _wanted(folder: Path) -> bool:
    # Not the folder itself: a checkpoint that is being written makes it anew.
    return (folder / JOB).is_file()


def _end_with(folder: Path, parent: int) -> None:
    """End this process at once when the one that started it has gone, or wants it no longer."""
    while _wanted(folder) and os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    _leave(folder)


def _leave(folder: Path) -> NoReturn:
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _launch(folder: Path, count: int, failures: list[BaseException]) -> None:
    # Ctrl-C and SIGTERM are the node's business: it removes the folder.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=folder.name,
        # Not c10d, which unpickles what anybody on this machine may send it.
        rdzv_backend="static",
        rdzv_endpoint=f"127.0.0.1:{_free_port()}",
        rdzv_configs={"rank": 0},
        local_addr="127.0.0.1",
        max_restarts=0,
        # Its own choice is a new folder a run, which stays.
        logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
    )
    try:
        elastic_launch(config, sys.executable)("-m", __name__, str(folder), str(os.getpid()))
    except BaseException as error:  # handed to the thread that waits
        failures.append(error)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _plain(failure: BaseException, folder: Path) -> BaseException:
    """What went wrong, as the process that it went wrong in says."""
    if (folder / ERROR).is_file():
        name, text = json.loads((folder / ERROR).read_text(encoding="utf-8"))
        return cast("VaeMnistError", getattr(errors, name)(text))
    if isinstance(failure, ChildFailedError):
        rank, first = failure.get_first_failure()
        how = f"signal {-first.exitcode}" if first.exitcode < 0 else f"exit status {first.exitcode}"
        # The launcher's type says text, but it is the content of a JSON file.
        message = cast("Any", first.message)
        told = message["extraInfo"]["py_callstack"].rstrip() if isinstance(message, dict) else message
        return WorkerError(
            f"training process {rank} (pid {first.pid}) ended with {how}; the others were stopped, and the epochs so "
            f"far are whole. Mend the cause and start the same command again. It said:\n{told}"
        )
    return failure


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]))

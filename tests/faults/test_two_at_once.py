"""Real processes side by side."""

import json
import socket
from contextlib import ExitStack

import pytest

from vae_mnist.project.lock import OWNER
from vae_mnist.storage.checkpoints import read_checkpoint

from ..helpers.compare import same
from ..helpers.idx import four_files, lay_out
from ..helpers.processes import MANY, running, wait_for

TRAIN = "--pipelines=ingest,train"


def checkpoints(project, run="default"):
    return sorted(project.path("06_models", run).glob("*.pt"))


def test_the_second_run_of_a_name_stops_and_names_the_first(project):
    with running(project, TRAIN, **MANY) as first:
        wait_for(lambda: checkpoints(project), first)
        owner = json.loads(project.path("06_models", "default", OWNER).read_text())
        for pipeline in ("ingest", "train", "evaluate", "generate"):
            result = project.invoke(f"--pipelines={pipeline}", **MANY)
            assert result.exit_code == 1
            assert result.output.splitlines()[-1] == (
                f"Error: run 'default' is being worked on by process {first.pid} on host {socket.gethostname()} "
                f"since {owner['started']}. Wait for it, stop it, or choose another run name: --params=run=…"
            )
        assert project.invoke("--pipelines=ingest", run="other").exit_code == 0
        assert first.poll() is None


@pytest.mark.slow
def test_runs_of_different_names_side_by_side_are_right(project, finished):
    names = ["a", "b", "c"]
    with ExitStack() as stack:
        processes = [stack.enter_context(running(project, run=name, train__epochs=4)) for name in names]
        outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    finished.invoke("--pipelines=train", run="alone", train__epochs=4)
    alone = read_checkpoint(finished.path("06_models", "alone", "vae_epoch_004.pt"))
    for name in names:
        assert same(read_checkpoint(checkpoints(project, name)[-1]), alone)
        assert project.path("08_reporting", name, "samples.png").is_file()
    image_set = project.path("05_model_input", "train_images.safetensors")
    number = image_set.stat().st_ino  # written again it would be another: the writer puts a new file in place
    assert project.invoke("--pipelines=ingest").exit_code == 0
    assert image_set.stat().st_ino == number


@pytest.mark.slow
def test_images_exchanged_under_a_run_never_mix_with_its_own(project, sample_images, tmp_path):
    train, test = sample_images
    others = lay_out(tmp_path, four_files(test, {key: value[:500] for key, value in train.items()}))
    with running(project, TRAIN, **MANY) as first:
        wait_for(lambda: checkpoints(project), first)
        exchanged = project.invoke("--pipelines=ingest", run="other", ingest__source="mnist", mnist_root=others)
        assert exchanged.exit_code == 0, exchanged.output
        count = len(checkpoints(project))
        wait_for(lambda: len(checkpoints(project)) > count + 1, first)
    cards = [read_checkpoint(checkpoints(project)[place]).dataset for place in (0, -1)]
    assert cards[0] == cards[1], "it goes on with the images that it has"
    for word in ("--pipelines=train", "--pipelines=evaluate", "--nodes=draw_reconstructions"):
        result = project.invoke(word, **MANY)
        assert result.exit_code == 1
        assert "images" in result.output.partition("Error: ")[2]
        assert "Traceback" not in result.output

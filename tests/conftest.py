"""Real images, a real project folder, real `kedro` processes."""

import getpass
import os
import shutil
import sys
import tempfile
from unittest.mock import patch

import pytest
import torch

from .helpers.idx import four_files
from .helpers.project import Project

# Two test processes whose threads wait for each other on two cores take ten times as long.
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory):
    """Where temporary files of the tests and of the processes they start go; none may stay."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", None)  # what Python has chosen before
        yield folder
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert left <= {f"torchinductor_{getpass.getuser()}"}  # PyTorch makes it, and leaves it empty, with each optimizer


@pytest.fixture(scope="session")
def sample_images():
    """The 5,000 real images as training and test images, (4000, 1, 28, 28) and (1000, 1, 28, 28)."""
    from vae_mnist.datasets.sample import read_sample

    raw = read_sample()
    return raw.train, raw.test


@pytest.fixture
def images(sample_images):
    """100 test images as floats in [0, 1]."""
    return sample_images[1]["images"][:100].float() / 255


@pytest.fixture
def contents(sample_images):
    """The four files of 60 training and 20 test images, by name."""
    train, test = sample_images
    return four_files(
        {key: value[:60] for key, value in train.items()}, {key: value[:20] for key, value in test.items()}
    )


@pytest.fixture
def project(tmp_path):
    """A fresh project: nothing was run in it."""
    return Project(tmp_path / "project")


@pytest.fixture(scope="session")
def ingested_images(tmp_path_factory):
    """The folder that the ingest pipeline fills with the sample."""
    project = Project(tmp_path_factory.mktemp("ingested") / "project")
    project.run("--pipelines=ingest")
    return project.path("05_model_input")


@pytest.fixture
def ingested(project, ingested_images):
    """A project with images and nothing else."""
    shutil.copytree(ingested_images, project.path("05_model_input"))
    return project


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A project after one `kedro run` of the tiny model, as a user starts it; its run 'default' must not change."""
    project = Project(tmp_path_factory.mktemp("finished") / "project")
    project.first_run = project.run(cold=True)
    return project


@pytest.fixture(scope="session")
def checkpoint_path(finished):
    return finished.path("06_models", "default", "vae_epoch_002.pt")


@pytest.fixture(autouse=True)
def global_state_is_left_alone():
    """No test, and so no function it calls, may move torch's global state."""
    before = torch.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with patch.dict(os.environ), patch.object(sys, "path", [*sys.path]):  # Kedro puts the project on both
        yield
    after = torch.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_rng_state(before[0])
    assert torch.equal(before[0], after[0]), "torch's default generator was moved"
    assert before[1:] == after[1:]

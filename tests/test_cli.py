"""Kedro's own commands, typed as users type them."""

import signal
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from vae_mnist.config.parameters import Kinds
from vae_mnist.storage.checkpoints import read_checkpoint

from .helpers.project import ROOT


def test_a_clean_run_warns_of_nothing(finished):
    assert finished.first_run.stderr == ""
    assert "WARNING" not in finished.first_run.stdout
    assert "ERROR" not in finished.first_run.stdout


def test_ipython_has_the_catalog(finished, tmp_path):
    code = "print('title:', catalog.load('data_card').title)"
    result = finished.kedro("ipython", "-c", code, env={"IPYTHONDIR": str(tmp_path)})
    assert "title: 5,000-digit sample of MNIST" in result.stdout, result.stderr


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (["--pipelines=evaluate"], {f"{kind}.json" for kind in ["metrics", *Kinds.model_fields]}),
        (["--nodes=make_loss_table"], {"loss_table.csv", "loss_table.json"}),
        (["--tags=tables"], {"loss_table.csv", "loss_table.json", "loss_curves.png", "loss_curves.json"}),
        (["--tags=latent"], {"interpolations.png", "latent_map.png", "traversal.png"}),
    ],
)  # fmt: skip
def test_parts_of_a_pipeline_can_be_chosen(finished, words, made):
    run = "parts"
    if not finished.path("06_models", run).exists():
        assert finished.invoke("--pipelines=train,evaluate,report", run=run).exit_code == 0
    folders = [finished.path("07_model_output", run), finished.path("08_reporting", run)]
    before = {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")}
    result = finished.invoke(*words, run=run)
    assert result.exit_code == 0, result.output
    now = {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*") if path.is_file()}
    assert {path.name for path, time in now.items() if before.get(path) != time} == made | {"run_record.json"}


def test_only_missing_outputs_are_made(project):
    assert project.invoke().exit_code == 0
    latent_map = project.path("08_reporting", "default", "latent_map.png")
    checkpoint = project.path("06_models", "default", "vae_epoch_001.pt")
    before = checkpoint.stat().st_mtime_ns
    latent_map.unlink()
    assert project.invoke("--only-missing-outputs").exit_code == 0
    assert latent_map.is_file()
    assert checkpoint.stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.usefixtures("ingested")
def test_the_fast_preset_trains_with_a_schedule_from_the_images_mean_picture(project):
    params = "--params=ingest.source=sample,train.threads=1,train.epochs=2"
    assert project.invoke("--env=fast", "--pipelines=train", params).exit_code == 0
    settings = read_checkpoint(project.path("06_models", "fast", "vae_epoch_002.pt")).settings
    chosen = {name: settings[f"train.{name}"] for name in ("batch_size", "schedule", "output_bias")}
    assert chosen == {"batch_size": 256, "schedule": "linear", "output_bias": "data"}
    assert settings["model.mlp.hidden_dim"] == 512
    again = project.invoke("--env=fast", "--pipelines=train", f"{params},train.epochs=3")
    assert "train.epochs: the run 'fast' has 2, you ask for 3." in again.output


def test_threads_are_told_not_to_spin_for_long_unless_the_user_says_otherwise(project):
    """In processes of their own, where torch is not yet there."""
    code = (
        "import os, sys\nfrom vae_mnist import cli\nassert 'torch' not in sys.modules\n"
        "try: cli.run(['--pipelines=no'], standalone_mode=False)\nexcept Exception: print(os.environ['GOMP_SPINCOUNT'])"
    )
    for given, counts in (({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7")):
        environment = {"PYTHONPATH": "src"} | given
        assert project.command(sys.executable, "-c", code, env=environment).stdout.split()[-1] == counts


@pytest.mark.parametrize("place", [{}, {"run": "../../up"}, {"data_root": "../" + "x" * 300}])
def test_a_wrong_parameter_ends_the_run_before_anything_is_made_in_another_thread_too(project, place):
    """Only the main thread may set what SIGTERM does."""
    before = signal.getsignal(signal.SIGTERM), sorted(project.root.parent.rglob("*"))
    wrong = {"train__epoch": 3} | place
    with ThreadPoolExecutor(1) as pool:
        here, there = project.invoke(**wrong), pool.submit(project.invoke, **wrong).result()
    for result in (here, there):
        assert result.exit_code == 1
        assert result.output.endswith("\n  train.epoch: no such parameter. Did you mean 'train.epochs'?\n")
        lines = result.output.partition("Error: wrong parameters, nothing was run:\n  ")[2].splitlines()
        assert len(lines) == len(wrong)
        assert lines[0].startswith(f"{next(iter(place), 'train.epoch')}: ")
    assert (signal.getsignal(signal.SIGTERM), sorted(project.root.parent.rglob("*"))) == before


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--pipelines=reprot", "--pipelines: no pipeline is named 'reprot'. Did you mean 'report'? Known are: "),
        ("--pipeline=nope", "--pipelines: no pipeline is named 'nope'. Known are: __default__, ingest, train, "),
        ("--nodes=nope", "Pipeline does not contain nodes named ['nope']. kedro registry describe NAME lists"),
        ("--tags=nope", "Pipeline contains no nodes after applying all provided filters."),
        ("--to-outputs=nope", "Pipeline does not contain datasets named ['nope']."),
        ("--params=train.epochs", "Invalid format of `params` option: Item `train.epochs` must contain a key and "),
        ("--params=train.epochs={", "Invalid value for '--params': expected key=value pairs, got 'train.epochs={', "),
    ],
)
def test_a_choice_that_does_not_exist_ends_in_one_message(project, word, message):
    result = project.invoke(word)
    assert result.exit_code == (2 if word.startswith("--params") else 1)
    assert result.output.splitlines()[-1].startswith(f"Error: {message}")
    assert "Traceback" not in result.output


def test_one_message_is_all_that_a_real_process_says(project):
    result = project.run("--pipelines=nope", check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: --pipelines: no pipeline is named 'nope'.")
    assert result.stderr.count("\n") == 1


def test_an_unexpected_error_keeps_its_traceback(project, monkeypatch):
    """Somebody's mistake in a node must show where it is."""

    def mistaken(*_, **__):
        return 1 / 0

    monkeypatch.setattr("vae_mnist.pipelines.ingest.nodes.DataCard", mistaken)
    result = project.invoke("--pipelines=ingest")
    assert result.exit_code == 1
    assert "Error: " not in result.output
    assert isinstance(result.exception, ZeroDivisionError)
    assert traceback.extract_tb(result.exception.__traceback__)[-1].name == "mistaken"


def test_git_status_is_clean_after_the_commands(finished):
    """Nothing that a command writes may show up as a new or changed file."""
    finished.command("git", "init", "-q", check=True)
    shown = finished.command("git", "ls-files", "--others", "--exclude-standard", check=True).stdout.splitlines()
    assert len(shown) > 50
    foreign = [name for name in shown if not (ROOT / name).is_file()]
    assert foreign == []
    changed = [name for name in shown if (ROOT / name).read_bytes() != (finished.root / name).read_bytes()]
    assert changed == []


def test_telemetry_is_denied_in_the_project():
    assert (ROOT / ".telemetry").read_text() == "consent: false\n"

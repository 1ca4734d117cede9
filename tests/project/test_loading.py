"""conf/ as the project reads it: merged, refused, and with its logging, wherever it lies."""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from vae_mnist.errors import ConfigError
from vae_mnist.project.loading import ConfigLoader
from vae_mnist.settings import CONFIG_LOADER_ARGS

from ..helpers.marks import slow_after
from ..helpers.project import ROOT, as_params, without_coverage


@pytest.fixture
def conf(tmp_path):
    """A copy of conf/."""
    return Path(shutil.copytree(ROOT / "conf", tmp_path / "conf"))


def load(conf, env=None, typed=None):
    return ConfigLoader(str(conf), env, typed, **CONFIG_LOADER_ARGS)


def test_a_preset_and_the_command_line_change_single_values_at_any_depth(conf):
    (conf / "fast" / "parameters_model.yml").write_text("model: {prior: flow, conv: {channels: [8]}}\n")
    typed = {"model": {"prior": "normal", "mlp": {"hidden_dim": 64}}}
    base, model = load(conf)["parameters"]["model"], load(conf, "fast", typed)["parameters"]["model"]
    assert model == base | {"conv": base["conv"] | {"channels": [8]}, "mlp": {"hidden_dim": 64}}


def test_loaders_of_two_environments_do_not_mix_up(conf):
    """OmegaConf keeps one table of resolvers for all of them."""
    base, fast = load(conf), load(conf, "fast")
    assert base["parameters"]["run"] == "default"
    assert fast["parameters"]["run"] == "fast"
    assert "/default/" in base["catalog"]["history"]["filepath"]


@pytest.mark.parametrize("file", ["base/globals.yml", "base/parameters_model.yml", "fast/parameters_train.yml"])
def test_a_file_that_cannot_be_read_is_named_with_its_line_once(conf, file):
    (conf / file).write_text("# one\n\tx: 1\n")
    with pytest.raises(ConfigError) as caught:
        load(conf, "fast")["parameters"]
    assert str(caught.value).startswith(f"wrong parameters, nothing was run:\n  {conf / file}, line 2: found")
    assert str(caught.value).count("wrong parameters") == 1


def test_a_name_that_no_file_gives_is_told_once(conf):
    (conf / "base" / "globals.yml").write_text("run: ${nobody}\n")
    with pytest.raises(ConfigError, match="nobody") as caught:
        load(conf)
    assert str(caught.value).count("wrong parameters") == 1


def test_a_missing_configuration_names_the_options_that_choose_it(conf):
    with pytest.raises(ConfigError, match=r"conf/nope.* --env: .* --conf-source names"):
        load(conf, "nope")["parameters"]


def test_logging_is_that_of_an_archived_configuration_and_without_one_the_option_is_named(project, tmp_path):
    with tarfile.open(tmp_path / "conf.tar.gz", "w:gz") as archive:
        archive.add(project.root / "conf", "conf")
    home = tmp_path / "elsewhere"
    home.mkdir()
    environment = without_coverage() | {"PYTHONPATH": str(project.root / "src")}

    def run(*words):
        command = [sys.executable, "-m", "vae_mnist", "--pipelines=ingest", as_params(), *words]
        return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)

    archived = run(f"--conf-source={tmp_path / 'conf.tar.gz'}")
    assert archived.returncode == 0, archived.stderr
    assert "INFO    Completed node: split_images\n" in archived.stdout
    assert "Saving data" not in archived.stdout
    without = run()
    assert without.returncode == 1
    assert "--conf-source" in without.stderr.partition("Error: no configuration")[2]
    assert "Traceback" not in without.stderr


IN_NOTEBOOKS = """
import json, sys
from pathlib import Path
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

bootstrap_project(Path.cwd().parent)
with KedroSession.create(Path.cwd().parent, runtime_params=json.loads(sys.argv[1])) as session:
    session.run(pipeline_names=["ingest"])
"""


@pytest.mark.parametrize("chosen", slow_after(1, [False, True]))
def test_logging_is_the_projects_in_notebooks_too_unless_the_user_chose_another(project, tmp_path, chosen):
    config = tmp_path / "logging.yml"
    config.write_text("version: 1\nroot: {level: ERROR}\n")
    environment = without_coverage() | ({"KEDRO_LOGGING_CONFIG": str(config)} if chosen else {})
    command = [sys.executable, "-c", IN_NOTEBOOKS, json.dumps({"ingest": {"source": "sample"}})]
    result = subprocess.run(
        command, cwd=project.root / "notebooks", env=environment, capture_output=True, text=True, check=True
    )
    assert ("INFO    Completed node: split_images\n" in result.stdout) is not chosen
    assert "Saving data" not in result.stdout

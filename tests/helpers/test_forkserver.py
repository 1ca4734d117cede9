"""Processes that the fork server starts are like others."""

import pytest


@pytest.mark.parametrize("cold", [False, True])
def test_a_process_runs_the_code_of_its_own_project(project, cold):
    settings = project.root / "src" / "vae_mnist" / "settings.py"
    settings.write_text("import os\nraise SystemExit(os.environ['SAID'])\n")
    result = project.kedro("run", cold=cold, env={"SAID": "by the copy"})
    assert (result.returncode, result.stderr) == (1, "by the copy\n")

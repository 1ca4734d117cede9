"""Real runs side by side, and what a comparison leaves alone."""

import json
import os
import re
import shutil
from contextlib import ExitStack

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file

from vae_mnist import load_model, sample
from vae_mnist.pipelines.compare.nodes import figures
from vae_mnist.project.lock import hold

from ..helpers.processes import MANY, running, wait_for
from ..helpers.project import ROOT, as_params

NLL, BOUND = "importance_weighted_nll", "neg_elbo (dynamically binarised)"
FILES = ["comparison.csv", "comparison.html", "rate_distortion.png", "samples.png"]


@pytest.fixture(scope="module")
def several(finished, tmp_path_factory):
    """A data folder with the run default, another seed of it, and beta 4, compared."""
    root = tmp_path_factory.mktemp("several") / "data"
    shutil.copytree(finished.path(), root)
    for run, changes in {"default-seed1": {"train__seed": 1}, "beta4": {"objective__beta": 4.0}}.items():
        result = finished.invoke("--pipelines=train,evaluate", data_root=root, run=run, **changes)
        assert result.exit_code == 0, result.output
    assert compare(finished, root).exit_code == 0
    return root


def compare(project, root, **changes):
    return project.invoke("--pipelines=compare", data_root=root, **changes)


def table(root):
    return pd.read_csv(root / "08_reporting" / "comparison" / "comparison.csv").set_index("run")


def contents(root):
    files = (path for path in root.rglob("*") if path.is_file() and "comparison" not in path.parts)
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_each_run_has_a_row_and_seeds_have_one_together(several):
    rows = table(several)
    assert rows.index.tolist() == ["beta4", "default", "default-seed1", "default (2 seeds)"]
    assert rows["seeds"].tolist() == [1, 1, 1, 2]
    assert rows["train.seed"].tolist() == ["0", "0", "1", "0, 1"]
    assert rows["objective.beta"].tolist() == [4.0, 1.0, 1.0, 1.0]
    assert rows["epochs"].tolist() == [2] * 4
    assert set(rows["weights"]) == {784 * 16 + 16 + 16 * 8 + 8 + 4 * 16 + 16 + 16 * 784 + 784}
    assert "model.network" not in rows
    record = json.loads((several / "07_model_output" / "beta4" / "run_record.json").read_text())
    assert rows["cpu_seconds"]["beta4"] == pytest.approx(sum(each["cpu_seconds"] for each in record))
    metrics = json.loads((several / "07_model_output" / "default" / "metrics.json").read_text())
    (nll,) = (each for each in metrics if each["name"] == NLL)
    assert rows[NLL]["default"] == pytest.approx(nll["value"])
    assert rows[f"{NLL}: se"]["default"] == pytest.approx(nll["standard_error"])
    both = rows[NLL][["default", "default-seed1"]]
    assert rows[NLL]["default (2 seeds)"] == pytest.approx(both.mean())
    assert rows[f"{NLL}: sd"]["default (2 seeds)"] == pytest.approx(both.std())


def test_runs_are_compared_with_the_best_image_by_image(several):
    rows = table(several)
    singles = rows[rows["seeds"] == 1]
    best, worst = singles[BOUND].idxmin(), singles[BOUND].idxmax()
    assert rows[f"{BOUND}: verdict"][best] == "best"
    path = "07_model_output/{}/image_bounds.safetensors"
    one, other = (load_file(several / path.format(run))["neg_elbo"].double().numpy() for run in (worst, best))
    low, high = ((one - other).mean() + sign * 1.96 * (one - other).std(ddof=1) / 1000**0.5 for sign in (-1, 1))
    assert rows[f"{BOUND}: low"][worst] == pytest.approx(low)
    assert rows[f"{BOUND}: high"][worst] == pytest.approx(high)
    assert rows[f"{BOUND}: verdict"][worst] == ("differs, paired" if low > 0 else "does not differ, paired")
    assert rows["loss: verdict"].isna().all()


def test_the_page_shows_the_same_runs(several):
    page = (several / "08_reporting" / "comparison" / "comparison.html").read_text(encoding="utf-8")
    rows = re.findall(r'<tr(?: class="family")?><td data-value="([^"]*)"', page.replace("\n", ""))
    assert rows == table(several).index.tolist()
    assert '<td class="number best"' in page
    assert "the two runs differ" in page


def test_samples_of_all_runs_come_from_the_same_noise(several, finished):
    page = np.asarray(Image.open(several / "08_reporting" / "comparison" / "samples.png"))
    for number, run in enumerate(["beta4", "default", "default-seed1"]):
        model = load_model(several / "06_models" / run / "vae_epoch_002.pt")
        image = sample(model, 8, seed=0)[3, 0].numpy()
        tile = np.rint(246 * (1 - image)).astype(np.uint8).repeat(3, 0).repeat(3, 1)
        top = 72 + 8 + number * (84 + 8)
        strip = page[top : top + 84, :, 0].astype(int)
        found = [np.abs(strip[:, x : x + 84] - tile).max() for x in range(strip.shape[1] - 84)]
        assert min(found) <= 1


def test_nothing_but_the_comparison_is_written_and_no_lock_is_taken(several, finished):
    before = contents(several)
    with hold(several / "06_models" / "default"):
        result = compare(finished, several)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (several / "08_reporting" / "comparison").iterdir()) == FILES
    assert {path.name for path in contents(several).keys() - before.keys()} == set()
    assert contents(several) == before
    assert result.output.count("written    ") == 4


def test_named_runs_are_compared_in_that_order(several, finished):
    for named in ("default-seed1 beta4", "[default-seed1]"):
        assert compare(finished, several, compare__runs=named).exit_code == 0
        names = named.strip("[]").split()
        assert table(several).index.tolist() == names
    result = compare(finished, several, compare__runs="beta4 gone")
    assert result.exit_code == 1
    assert "compare.runs: expected some of beta4, default, default-seed1, got gone." in result.output


def test_a_damaged_run_says_so_and_the_others_go_on(several, finished, tmp_path, caplog, monkeypatch):
    root = tmp_path / "data"
    shutil.copytree(several, root)
    (root / "06_models" / "beta4" / "vae_epoch_002.pt").write_bytes(b"no checkpoint")
    (root / "07_model_output" / "default-seed1" / "metrics.json").write_text("{")
    shutil.copytree(root / "07_model_output" / "default", root / "07_model_output" / "no-models")
    monkeypatch.setattr(figures.logger, "handlers", [caplog.handler])
    assert compare(finished, root).exit_code == 0
    rows = table(root)
    assert rows["remarks"]["beta4"] == "no readable checkpoint"
    assert rows["remarks"]["default-seed1"] == "metrics.json is damaged"
    assert rows["objective.beta"].tolist() == [4.0, 1.0, 1.0, 1.0, 1.0]  # from the record
    assert rows["data"].nunique() == 1
    assert rows[NLL].isna().tolist() == [False, False, True, False, True]
    said = list(dict.fromkeys(each.getMessage() for each in caplog.records if each.name == figures.logger.name))
    assert [line.partition(": no samples: ")[0] for line in said] == ["run beta4", "run no-models"]
    assert "vae_epoch_002.pt: damaged" in said[0]


def test_a_run_that_was_trained_on_since_says_so(several, finished, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(several, root)
    longer = {"objective__beta": 4.0, "train__epochs": 3}
    assert finished.invoke("--pipelines=train", data_root=root, run="beta4", **longer).exit_code == 0
    failed = finished.invoke("--pipelines=train", data_root=root, run="beta4", objective__beta=9.0)
    assert failed.exit_code == 1
    assert compare(finished, root).exit_code == 0
    assert table(root)["epochs"]["beta4"] == 2
    assert table(root)["remarks"]["beta4"] == "trained to epoch 3, not evaluated since"
    assert table(root)["objective.beta"]["beta4"] == 4.0


def test_two_comparisons_at_once_leave_whole_files(several, finished):
    with ExitStack() as stack:
        both = [stack.enter_context(running(finished, "--pipelines=compare", data_root=several)) for _ in range(2)]
        outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    folder = several / "08_reporting" / "comparison"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert len(table(several)) == 4
    for name in FILES[2:]:
        Image.open(folder / name).load()
    assert (folder / "comparison.html").read_text(encoding="utf-8").endswith("</html>\n")


def test_a_run_can_be_compared_while_it_trains(project):
    with running(project, "--pipelines=ingest,train", **MANY) as training:
        wait_for(lambda: list(project.path("06_models", "default").glob("*.pt")), training)
        result = project.invoke("--pipelines=compare")
        assert result.exit_code == 0, result.output
        assert training.poll() is None
    rows = table(project.path())
    assert rows["remarks"].tolist() == ["not evaluated"]
    assert rows["epochs"]["default"] >= 1


@pytest.mark.slow
def test_the_documented_loop_trains_a_run_a_seed_which_are_a_family(project):
    text = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith("for seed in"))
    project.command("bash", "-c", line.replace("--params=", f"{as_params()},"), check=True)
    assert project.invoke("--pipelines=compare").exit_code == 0
    names = [f"default-seed{seed}" for seed in (0, 1, 2)]
    assert table(project.path()).index.tolist() == [*names, "default (3 seeds)"]


def test_temporary_files_of_a_killed_comparison_are_removed_when_they_are_old(several, finished):
    folder = several / "08_reporting" / "comparison"
    old, new = folder / ".samples.png.0123abcd.tmp", folder / ".samples.png.4567abcd.tmp"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    assert compare(finished, several).exit_code == 0
    assert (old.exists(), new.exists()) == (False, True)
    new.unlink()


def test_no_runs_are_one_sentence(finished, tmp_path):
    result = compare(finished, tmp_path)
    assert result.exit_code == 1
    assert f"Error: no runs under {tmp_path}/07_model_output: run kedro run first" in result.output


def test_comparing_within_another_run_is_refused(finished):
    result = finished.invoke("--pipelines=evaluate,compare")
    assert result.exit_code == 1
    assert "Error: compare reads what runs have left" in result.output

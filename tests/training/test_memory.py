"""What fits: estimates held to measured peaks, and refusals in processes whose memory is really limited."""

import json
import re
import subprocess
import sys
import tempfile

import pytest
import torch

from vae_mnist.config.parameters import EvaluateConfig, ModelConfig
from vae_mnist.models import VAE
from vae_mnist.training.memory import (
    Sizes,
    _container_free,
    available_memory,
    check_evaluation,
    check_generation,
    check_training,
    evaluation_need,
    generation_need,
    training_need,
)

from ..helpers.project import as_params

CPU = torch.device("cpu")
SHAPE = (1, 28, 28)

# Each case in a process of its own, forked before torch has threads: the peak of a process never falls again.
MEASURE = """
import json, os, resource, sys
from pathlib import Path
import torch
from vae_mnist.storage.checkpoints import write_checkpoint
from vae_mnist.config.parameters import ModelConfig, ObjectiveConfig, TrainConfig
from vae_mnist.training.machine import resolve_precision
from vae_mnist.measures.bounds import importance_weighted, posterior_statistics
from vae_mnist.datasets.tensors import TensorsDataset
from vae_mnist.sampling import decode, prior_codes
from vae_mnist.training.loop import snapshot, start, train

torch.set_num_threads(1)
cpu, shape, folder = torch.device("cpu"), (1, 28, 28), Path(sys.argv[2])

def begin(hidden, latent, batch, precision):
    model = ModelConfig(name="vae", hidden_dim=hidden, latent_dim=latent)
    config = TrainConfig(epochs=1, batch_size=batch, learning_rate=1e-3, schedule="constant", warmup_steps=0,
                         adam_beta1=0.9, adam_beta2=0.999, output_bias="random", precision=precision, device="cpu",
                         seed=0, resume=True, threads="auto", processes=1, compile=False)
    images = torch.empty(1, *shape, dtype=torch.uint8)
    return start(model, config, images, cpu, resolve_precision(precision, cpu)), config

def training(count, batch, hidden, latent, precision="float32"):
    images = torch.full((count, *shape), 7, dtype=torch.uint8)
    state, config = begin(hidden, latent, batch, precision)
    splits = {"train": images, "test": images[:10]}
    for state in train(state, splits, ObjectiveConfig(beta=1.0), config, resolve_precision(precision, cpu)):
        copy = snapshot(state, {}, {"sha256": {"train": ""}})
        write_checkpoint(copy, folder / "c.pt")

def weighting(count, samples, chunk, hidden, latent):
    images = torch.full((count, *shape), 255, dtype=torch.uint8)
    state, _ = begin(hidden, latent, 1, "float32")
    posterior_statistics(state.model, images)
    importance_weighted(state.model, images, samples, chunk_size=chunk)

def generating(count, hidden, latent):
    state, _ = begin(hidden, latent, 1, "float32")
    codes = prior_codes(state.model, count)
    tensors = {"images": decode(state.model, codes), "codes": codes}
    TensorsDataset(filepath=str(folder / "digits.safetensors")).save(tensors)

def decoding(count, hidden, latent):
    state, _ = begin(hidden, latent, 1, "float32")
    decode(state.model, prior_codes(state.model, count))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

for name, small, case in json.loads(sys.argv[1]):
    read, write = os.pipe()
    if os.fork() == 0:
        globals()[name](*small)  # what the first call of all sets up
        before = peak()
        globals()[name](*case)
        os.write(write, str(peak() - before).encode())
        os._exit(0)
    os.wait()
    print(os.read(read, 30).decode())
"""

SMALL = {"training": (4, 2, 8, 2), "weighting": (4, 2, 2, 8, 2), "generating": (2, 8, 2), "decoding": (2, 8, 2)}


def measured(*cases):
    """Peak growth of each case (name, *arguments), bytes."""
    words = json.dumps([(name, SMALL[name], case) for name, *case in cases])
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", "-c", MEASURE, words, folder]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return [int(line) for line in result.stdout.split()]


def hold(cases, needs):
    for case, need, peak in zip(cases, needs, measured(*cases), strict=True):
        assert peak <= need <= 3 * peak, f"{case}: estimated {need / 1e6:.0f} MB, measured {peak / 1e6:.0f} MB"


@pytest.mark.slow
def test_the_estimate_of_a_training_lies_between_its_peak_and_three_times_that():
    cases = [  # where pixels, hidden, latent dimensions, parameters take most; and half precision
        ("training", 8000, 8000, 16, 4),
        ("training", 2000, 2000, 4096, 4),
        ("training", 2000, 2000, 16, 2048),
        ("training", 10, 10, 4096, 1024),
        ("training", 8000, 8000, 512, 32, "bfloat16"),
    ]
    hold(cases, [training_need(Sizes(784, case[3], case[4]), case[1]).of(case[2]) for case in cases])


@pytest.mark.slow
def test_the_estimate_of_an_evaluation_lies_between_its_peak_and_three_times_that():
    cases = [
        ("weighting", 4000, 2, 8000, 16, 4),
        ("weighting", 4, 1000, 4000, 4096, 4),
        ("weighting", 4, 1000, 4000, 16, 4096),
        ("weighting", 1000, 8, 8000, 512, 32),
    ]
    hold(cases, [evaluation_need(Sizes(784, *case[4:]), *case[1:3]).of(case[3]) for case in cases])


@pytest.mark.slow
def test_the_estimate_of_generated_digits_lies_between_its_peak_and_three_times_that():
    cases = [("generating", 100_000, 16, 4), ("generating", 40_000, 512, 1024)]
    hold(cases, [generation_need(Sizes(784, *case[2:]), shown=0).of(case[1]) for case in cases])


@pytest.mark.slow
def test_decoding_takes_its_output_and_one_piece_more():
    few, many = measured(("decoding", 12_000, 16, 4), ("decoding", 60_000, 16, 4))
    assert many - few < 1.6 * 48_000 * 784 * 4  # 1.0 and what the allocator keeps; joined pieces would take 2.0


@pytest.mark.slow
def test_many_importance_samples_take_no_more_than_their_weights():
    few, many = measured(("weighting", 3, 100, 10, 16, 4), ("weighting", 3, 20_000, 10, 16, 4))
    assert many - few < 16 * 20_000 + 2**20


# A shell's `ulimit -v`, set where the libraries are loaded, so that what is left does not depend on their size.
LIMITED = """
import json, resource, sys
import matplotlib.pyplot, psutil, torch
from click.testing import CliRunner
from kedro.framework.cli.cli import KedroCLI
from pathlib import Path
cli, runner = KedroCLI(Path.cwd()), CliRunner()
for words in json.loads(sys.argv[2]):
    limit = psutil.Process().memory_info().vms + int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    result = runner.invoke(cli, ["run", *words])
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    said = result.output.partition("Error: ")[2] if result.exit_code else ""
    print("said", json.dumps([result.exit_code, said or repr(result.exception)]))
"""


def limited(project, room, *runs):
    """(exit status, error) of each `kedro run` in a process that may take `room` more bytes."""
    result = project.command(sys.executable, "-W", "ignore", "-c", LIMITED, str(room), json.dumps(runs), check=True)
    return [json.loads(line[5:]) for line in result.stdout.splitlines() if line.startswith("said ")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pipeline", "key", "asked", "hidden", "room"),
    [
        ("train", "train.batch_size", 1_000_000, 4096, 900_000_000),
        ("evaluate", "evaluate.chunk_size", 1_000_000, 16, 800_000_000),
        ("generate", "generate.count", 100_000, 16, 1_000_000_000),
    ],
)
def test_a_run_that_memory_cannot_hold_says_what_would_fit_and_that_fits(project, pipeline, key, asked, hidden, room):
    large = {"model__hidden_dim": hidden, "evaluate__importance_samples": 40, "train__epochs": 1}
    before = ["--pipelines=ingest,train"] if pipeline != "train" else ["--pipeline=ingest"]
    assert project.invoke(*before, **large).exit_code == 0
    changed = large | {"train__resume": False} if pipeline == "train" else large
    words = [f"--pipeline={pipeline}", as_params(**changed, **{key.replace(".", "__"): asked})]
    ((status, said),) = limited(project, room, words)
    assert status == 1, said
    found = re.match(
        rf"{key}: [0-9,]+ [a-z ]+ at once need about [0-9.]+ GB, and [01].[0-9] GB of memory are free; at "
        rf"most ([0-9,]+) would fit: --params={key}=([0-9]+)\n",
        said,
    )
    assert found, said
    assert found[1].replace(",", "") == found[2]
    words[1] = as_params(**changed, **{key.replace(".", "__"): found[2]})
    assert limited(project, room, words) == [[0, "None"]]


@pytest.mark.slow
def test_a_model_that_memory_cannot_hold_is_refused_by_its_sizes(project):
    assert project.invoke("--pipeline=ingest").exit_code == 0
    words = ["--pipeline=train", as_params(model__hidden_dim=65_536, model__latent_dim=4096)]
    ((status, said),) = limited(project, 10**9, words)
    assert status == 1
    assert re.match(
        r"model.hidden_dim, model.latent_dim: 65,536 and 4,096 need about [0-9.]+ GB, and [01].[0-9] GB of "
        r"memory are free. Choose a smaller model.\n",
        said,
    ), said
    assert list(project.path("06_models").rglob("*.pt")) == []


def test_default_sizes_pass_on_any_machine_that_runs_the_tests():
    model = ModelConfig(name="vae", latent_dim=32, hidden_dim=512)
    check_training(model, SHAPE, 60_000, 128, CPU)
    with torch.random.fork_rng(devices=[]):
        vae = VAE()
    check_evaluation(
        vae, 10_000, EvaluateConfig(importance_samples=5000, binarisation="dynamic", seed=0, chunk_size=2000)
    )
    check_generation(vae, 64)


def test_a_batch_is_never_larger_than_the_digits():
    model = ModelConfig(name="vae", latent_dim=2, hidden_dim=4096)  # a million images would need 88 GB
    check_training(model, SHAPE, 100, 1_048_576, CPU)


def test_free_memory_falls_by_what_is_taken():
    code = (
        "import psutil, resource, torch; from vae_mnist.training.memory import available_memory\n"
        "limit = psutil.Process().memory_info().vms + 10**9\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "before = available_memory(torch.device('cpu')); taken = bytearray(500_000_000)\n"
        "print(before, available_memory(torch.device('cpu')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(int, result.stdout.split())
    assert before == pytest.approx(10**9 - 2**28, rel=0.02)  # threads get their share
    assert before - after == pytest.approx(500_000_000, rel=0.02)


GROUP = {
    "v2": ("0::/a/b", "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    "v1": (
        "5:cpu,memory:/a/b",
        "sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
}


@pytest.mark.parametrize("version", GROUP)
def test_every_control_group_above_counts_and_cached_files_do_not(tmp_path, version):
    line, top, limit, used, cached = GROUP[version]
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(f"7:pids:/a\n{line}\n")
    for folder, limits in {"a/b": ("max" if version == "v2" else str(2**63 - 4096), 300), "a": (1000, 400)}.items():
        group = tmp_path / top / folder
        group.mkdir(parents=True, exist_ok=True)
        (group / limit).write_text(f"{limits[0]}\n")
        (group / used).write_text(f"{limits[1]}\n")
        (group / "memory.stat").write_text(f"anon 1\n{cached} 50\n")
    assert min(_container_free(tmp_path)) == 1000 - 400 + 50


def test_a_system_without_control_groups_has_no_such_limit(tmp_path):
    assert list(_container_free(tmp_path)) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_a_card_answers_for_itself():
    assert 0 < available_memory(torch.device("cuda")) <= torch.cuda.get_device_properties(0).total_memory

"""What fits: estimates held to measured peaks, and refusals in processes whose memory is really limited."""

import json
import re
import subprocess
import sys
import tempfile
from math import prod

import pytest
import torch

from vae_mnist.errors import ConfigError
from vae_mnist.training.memory import (
    _container_free,
    available_memory,
    check_memory,
    evaluation_need,
    generation_need,
    peak_bytes,
    training_need,
)

from ..helpers.models import FACTOR, KINDS, OBJECTIVES, model_config, objective_config, small
from ..helpers.project import ROOT, as_params
from ..helpers.training import config

CPU = torch.device("cpu")
SHAPE = (1, 28, 28)

# Each case in a process of its own, forked before torch has threads: the peak of a process never falls again.
MEASURE = """
import json, os, resource, sys
from pathlib import Path
import torch
from tests.helpers.models import model_config, objective_config, small
from tests.helpers.training import CARD, begin, config, epochs, settings
from vae_mnist.data.images import ImageSet
from vae_mnist.datasets.tensors import TensorsDataset
from vae_mnist.measures.bounds import importance_weighted
from vae_mnist.measures.latents import posterior_statistics
from vae_mnist.sampling import decode, prior_codes
from vae_mnist.storage.checkpoints import write_checkpoint
from vae_mnist.training.state import snapshot

torch.set_num_threads(1)
folder = Path(sys.argv[2])

def image_set(count):
    images = torch.full((count, 1, 28, 28), 255, dtype=torch.uint8)
    return ImageSet(images=images, labels=torch.zeros(count, dtype=torch.int64))

def training(model, count, batch, objective, options):
    cfg = config(epochs=1, batch_size=batch, threads=1, **options)
    splits = {"train": image_set(count), "test": image_set(10)}
    model, objective = model_config(**model), objective_config(name=objective)
    for state in epochs(begin(splits, cfg, model, objective), splits, cfg):
        write_checkpoint(snapshot(state, settings(cfg, model, objective), CARD), folder / "c.pt")

def weighting(model, count, samples, chunk):
    images, network = image_set(count)["images"], small(**model)
    posterior_statistics(network, images)
    importance_weighted(network, images, samples, seed=0, chunk_size=chunk)

def generating(model, count):
    network = small(**model)
    codes = prior_codes(network, count)
    tensors = {"images": decode(network, codes), "codes": codes}
    TensorsDataset(filepath=str(folder / "images.safetensors")).save(tensors)

def decoding(model, count):
    network = small(**model)
    decode(network, prior_codes(network, count))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

for name, small_case, case in json.loads(sys.argv[1]):
    read, write = os.pipe()
    if os.fork() == 0:
        globals()[name](*small_case)  # what the first call of all sets up
        before = peak()
        globals()[name](*case)
        os.write(write, str(peak() - before).encode())
        os._exit(0)
    os.wait()
    print(os.read(read, 30).decode())
"""

SMALL = {
    "training": ({}, 4, 2, "elbo", {}),
    "weighting": ({}, 4, 2, 2),
    "generating": ({}, 2),
    "decoding": ({}, 2),
}


def mlp(hidden, latent):
    return {"latent_dim": latent, "mlp": {"hidden_dim": hidden}}


CONV = {"network": "conv", "conv": {"channels": [32, 64], "hidden_dim": 256}, "latent_dim": 32}


def measured(*cases):
    """Peak growth of each case (name, *arguments), bytes."""
    words = json.dumps([(name, SMALL[name], case) for name, *case in cases])
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", "-c", MEASURE, words, folder]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return [int(line) for line in result.stdout.split()]


def need(name, model, count, *rest):
    if name == "training":
        batch, objective, options = rest
        chosen = model_config(**model), objective_config(name=objective), config(**options)
        return training_need(*chosen, SHAPE, count, CPU, batch) + count * prod(SHAPE)  # here they are in no file
    if name == "weighting":
        return evaluation_need(small(**model), count, *rest)
    return generation_need(small(**model), count, 0)


@pytest.mark.slow
def test_estimates_lie_between_the_peak_and_three_times_that():
    cases = [  # where pixels, hidden, latent dimensions, parameters take most; other objectives, precisions, models
        ("training", mlp(16, 4), 8000, 8000, "elbo", {}),
        ("training", mlp(4096, 4), 2000, 2000, "elbo", {}),
        ("training", mlp(16, 2048), 2000, 2000, "elbo", {}),
        ("training", mlp(4096, 1024), 10, 10, "elbo", {}),
        ("training", mlp(512, 32), 2000, 2000, "iwae", {}),
        ("training", mlp(512, 32), 8000, 8000, "elbo", {"precision": "bfloat16"}),
        ("training", mlp(4096, 1024), 10, 10, "elbo", {"average": 0.99}),
        ("training", mlp(16, 4), 40_000, 100, "elbo", {"binarisation": "static"}),
        ("training", mlp(16, 4), 8000, 8000, "elbo", {"binarisation": "dynamic"}),
        ("training", CONV, 1000, 1000, "elbo", {}),
        ("training", mlp(16, 512) | {"prior": "flow"}, 1000, 1000, "elbo", {}),
        ("weighting", mlp(16, 4), 4000, 2, 8000),
        ("weighting", mlp(4096, 4), 4, 1000, 4000),
        ("weighting", mlp(16, 4096), 4, 1000, 4000),
        ("weighting", mlp(512, 32), 1000, 8, 8000),
        ("weighting", CONV, 500, 8, 4000),
        ("generating", mlp(16, 4), 100_000),
        ("generating", mlp(512, 1024), 40_000),
        ("generating", CONV, 20_000),
    ]
    for case, peak in zip(cases, measured(*cases), strict=True):
        assert peak <= need(*case) <= 3 * peak, f"{case}: {need(*case) / 1e6:.0f} MB, measured {peak / 1e6:.0f} MB"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("few", "many", "most"),
    [  # 1.0 and what the allocator keeps, joined pieces would take 2.0; samples take no more than their weights
        (("decoding", mlp(16, 4), 12_000), ("decoding", mlp(16, 4), 60_000), 1.6 * 48_000 * 784 * 4),
        (("weighting", mlp(16, 4), 3, 100, 10), ("weighting", mlp(16, 4), 3, 20_000, 10), 16 * 20_000 + 2**20),
    ],
    ids=["decoding", "weighting"],
)
def test_more_of_them_take_little_more_memory_than_what_comes_of_them(few, many, most):
    before, after = measured(few, many)
    assert after - before < most


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_more_images_samples_and_weights_need_more(kind):
    model, elbo, iwae = model_config(**kind), objective_config(), objective_config(name="iwae")
    cfg = config()
    needs = [training_need(model, elbo, cfg, SHAPE, 5000, CPU, size) for size in (1, 1000, 5000)]
    assert needs == sorted(set(needs))
    assert training_need(model, iwae, cfg, SHAPE, 5000, CPU, 5000) > needs[-1]
    assert training_need(model, elbo, cfg, (3, 56, 56), 5000, CPU, 5000) > needs[-1]
    assert training_need(model, elbo, config(average=0.9), SHAPE, 5000, CPU, 5000) > needs[-1]


def test_images_in_colour_and_their_passes_are_counted_by_their_shape():
    model, shape = model_config(), (3, 128, 128)
    pixels = prod(shape)

    def need(count, device=CPU, **options):
        return training_need(model, objective_config(), config(**options), shape, count, device, 1)

    few = need(1000)
    assert need(2000) - few == 1000 * 16, "the images are in a file"
    assert need(2000, binarisation="static") - need(1000, binarisation="static") == 1000 * (pixels + 16)
    card = torch.device("cuda")
    assert need(2000, card) - need(1000, card) == 1000 * (pixels + 16)
    # parameters 14 times, of 1,000 test images at once the pixels, outputs and their terms
    parameters = 2 * 16 * pixels
    assert few > 4 * (14 * parameters + 3 * 1000 * pixels)
    network = small(shape)
    evaluated = [evaluation_need(network, count, 1, 100) for count in (2000, 3000)]
    assert evaluated[1] - evaluated[0] == 1000 * (pixels + 2 * 4 * network.latent_dim)
    assert generation_need(network, 5000, 0) - generation_need(network, 4999, 0) == 8 * (pixels + network.latent_dim)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_every_objective_needs_is_known_before_it_runs(name):
    model, made = model_config(), objective_config(name=name)
    need = training_need(model, made, config(), SHAPE, 5000, CPU, 5000)
    assert need >= training_need(model, objective_config(), config(), SHAPE, 5000, CPU, 5000)
    if name == "factor":
        wide = objective_config(name=name, factor=FACTOR | {"hidden_dim": 2000})
        assert training_need(model, wide, config(), SHAPE, 5000, CPU, 1) > 4 * 14 * 2000**2


def test_the_peak_counts_what_is_alive_at_one_moment():
    def work():
        first = torch.empty(1000, device="meta")
        second = first + 1  # 8,000 bytes at once
        del first
        return second + 1  # again

    assert peak_bytes(work) == 8000


# A shell's `ulimit -v`, set where the libraries are loaded, so that what is left does not depend on their size.
LIMITED = """
import json, resource, sys
import matplotlib.pyplot, psutil, torch
from click.testing import CliRunner
from kedro.framework.cli.cli import KedroCLI
from pathlib import Path
cli, runner = KedroCLI(Path.cwd()), CliRunner()
limit = psutil.Process().memory_info().vms + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
result = runner.invoke(cli, ["run", *sys.argv[2:]])
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
said = result.output.partition("Error: ")[2] if result.exit_code else ""
print("said", json.dumps([result.exit_code, said or repr(result.exception)]))
"""


def limited(project, room, *words):
    """Exit status and error of a `kedro run` in a process that may take `room` more bytes."""
    result = project.command(sys.executable, "-W", "ignore", "-c", LIMITED, str(room), *words, check=True)
    return json.loads(result.stdout.rpartition("said ")[2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pipeline", "key", "asked", "what", "hidden", "room"),
    [
        ("train", "train.batch_size", 1_000_000, "4,000 images", 4096, 900_000_000),
        ("evaluate", "evaluate.chunk_size", 1_000_000, "100,000 decoder outputs", 16, 800_000_000),
        ("generate", "generate.count", 100_000, "100,000 images", 16, 1_000_000_000),
    ],
)
def test_a_run_that_memory_cannot_hold_says_what_would_fit_and_that_fits(
    project, pipeline, key, asked, what, hidden, room
):
    large = {"model__mlp__hidden_dim": hidden, "evaluate__importance_samples": 100, "train__epochs": 1}
    before = "--pipelines=ingest" if pipeline == "train" else "--pipelines=ingest,train"
    assert project.invoke(before, **large).exit_code == 0

    def run(number):
        return limited(project, room, f"--pipelines={pipeline}", as_params(**large, **{key.replace(".", "__"): number}))

    status, said = run(asked)
    assert status == 1, said
    found = re.match(rf"{key}: {what} at once need .*, and [01].[0-9] GB .* would fit: --params={key}=([0-9]+)\n", said)
    assert found, said
    assert run(found[1]) == [0, "None"]


def test_what_fits_is_the_largest_number_that_needs_nine_tenths_of_what_is_free(monkeypatch):
    monkeypatch.setattr("vae_mnist.training.memory.available_memory", lambda _: 10**9)
    check_memory("a.size", 10, "things", lambda size: size * 10**8, CPU)
    said = r"a.size: 5,000 things at once need about 5.0 GB, and 1.0 GB .*; at most 890 would fit: --params=a.size=890$"
    with pytest.raises(ConfigError, match=said):
        check_memory("a.size", 5000, "things", lambda size: 10**7 + size * 10**6, CPU)
    with pytest.raises(ConfigError, match=r"model: one of the things at once needs about 2.0 GB, and 1.0 GB of me"):
        check_memory("a.size", 3, "things", lambda size: size * 2 * 10**9, CPU)


def test_processes_of_one_machine_share_its_memory_and_each_batch(monkeypatch):
    model = model_config(mlp={"hidden_dim": 4096})
    job = model, objective_config(), config(), SHAPE, 1000
    alone = training_need(*job, CPU, 10)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "100")
    copies = 99 * 1000 * prod(SHAPE)  # of the images, which the first process reads from their file
    assert training_need(*job, CPU, 1000) == 100 * alone + copies
    assert training_need(*job, torch.device("cuda"), 10) == alone + 1000 * prod(SHAPE)


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


V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = ("memory.max", "memory.current", "inactive_file")


@pytest.mark.parametrize(
    ("line", "top", "names", "unlimited"),
    [("0::/a/b", "sys/fs/cgroup", V2, "max"), ("5:cpu,memory:/a/b", "sys/fs/cgroup/memory", V1, 2**63 - 4096)],
)
def test_every_control_group_above_counts_and_cached_files_do_not(tmp_path, line, top, names, unlimited):
    limit, used, cached = names
    (tmp_path / "proc" / "self").mkdir(parents=True)
    assert list(_container_free(tmp_path)) == []
    (tmp_path / "proc" / "self" / "cgroup").write_text(f"7:pids:/a\n{line}\n")
    for folder, most, taken in (("a", 1000, 400), ("a/b", unlimited, 300)):
        group = tmp_path / top / folder
        group.mkdir(parents=True)
        (group / limit).write_text(f"{most}\n")
        (group / used).write_text(f"{taken}\n")
        (group / "memory.stat").write_text(f"anon 1\n{cached} 50\n")
    assert min(_container_free(tmp_path)) == 1000 - 400 + 50


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_a_card_answers_for_itself():
    assert 0 < available_memory(torch.device("cuda")) <= torch.cuda.get_device_properties(0).total_memory

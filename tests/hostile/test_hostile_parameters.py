"""Wrong parameters, made at random: each ends in a message that names the key, or is in range and runs."""

import contextlib
import math
import random
import re
from collections import Counter
from dataclasses import dataclass, field

import click
import pandas as pd
import pytest
import yaml
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from omegaconf import OmegaConf

from vae_mnist.cli import run as run_command
from vae_mnist.config.parameters import Kinds
from vae_mnist.errors import ConfigError

from ..helpers.project import TINY

SEED = 3

# Pieces of YAML, each of which has its own way to be no plain value.
PIECES = [
    "", "~", "null", "???", "yes", "no", "on", "true", "auto", "newest", "cpu", "tpu", "cuda:128", "mnist", "float32",
    "vae_epoch_002", "'1'", "abc", "é", "|", ">", "-", "0", "-1", "1", "2", "3", "5", "20", "64", "+7", "010", "0o17",
    "0x10", "1:30", "1_000", "1e3", "1e400", "0.5", "-0.0", "1.0", "9.99", ".nan", ".inf", "-.inf", "1e-400", "1e308",
    "2024-01-01", "2024-13-45", "9" * 20, "9" * 400, "9" * 5000, "-" + "9" * 5000, "0x" + "f" * 5000, "${", "${}",
    "${nope}", "${globals:nope}", "${globals:run}", "${runtime_params:nope}", "${oc.env:HOME}", "${train}", "[1]", "[]",
    "[", "{", "{}", "{a: 1}", "{5: 6}", "{epochs: 3}", "{a", "*x", "&x [*x]", "!!python/object:os.system x",
    "!!float x", "!!binary AAAA", "a: b", "@x", "%x", "`x`", "'", '"', '"\\0"', '"\\ud800"', "# x", "[" * 400, "../up",
    "/abs", "x" * 300, "con", "Nul.txt", "a.", "\t1",
]  # fmt: skip


@dataclass
class Mutant:
    """One wrong text of one file, or one --params."""

    kind: str
    file: str
    content: str
    names: set  # of which a message has to name one
    parameters: dict = field(default_factory=dict)  # as they were read, of one that is in range


@pytest.mark.parametrize(
    ("mutations", "runs"), [(60, 3), pytest.param(1000, 24, marks=pytest.mark.slow)], ids=["few", "many"]
)
@pytest.mark.usefixtures("ingested")
def test_mutations_are_refused_by_name_or_in_range_and_run(project, mutations, runs):
    base = project.root / "conf" / "base"
    bootstrap_project(project.root)
    rng, counts, valid = random.Random(SEED), Counter(), []
    with contextlib.chdir(project.root), KedroSession.create(project.root) as session:
        for _ in range(mutations):
            mutant = rng.choice([text_mutant, text_mutant, params_mutant])(rng, base)
            with applied(mutant, base):
                outcome, said = judge(mutant, session)
            counts[mutant.kind, outcome] += 1
            if outcome == "valid":
                valid.append(mutant)
            assert outcome != "WRONG", f"{mutant.kind} {mutant.file} {mutant.content[-200:]!r}\n -> {said}"
    print(counts)
    assert {outcome for _, outcome in counts} == {"refused", "valid"}

    valid.sort(key=lambda mutant: not any(group in mutant.file for group in ("train", "model", "objective")))
    trained = Counter()
    for number, mutant in enumerate(valid):
        if trained["trained"] + trained["refused"] < runs:
            trained[try_out(project, base, mutant, number)] += 1
    print(trained)
    assert trained["trained"] >= runs * 2 / 3


def text_mutant(rng, base):
    path = rng.choice(files(base))
    lines = path.read_text().splitlines(keepends=True)
    at = rng.choice([n for n, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")])
    line = lines[at]
    key, _, rest = line.partition(":")
    indent = key[: len(key) - len(key.lstrip())]
    odd_keys = ["5", "1.5", "true", "~", "[a]", "<<", "2024-01-01", "b", "!!binary AA=="]
    new = rng.choice([
        *[lambda: f"{key}: {rng.choice(PIECES)}\n"] * 12,
        lambda: "",
        lambda: line + line,
        lambda: f"{line}{indent}{rng.choice(PIECES)}: 1\n",
        lambda: f"{indent}{rng.choice(odd_keys)}:{rest}",
        lambda: f"{indent}{misspelt(rng, key.strip())}:{rest}",
        lambda: "\t" + line,
        lambda: " " + line,
        line.lstrip,
        lambda: key + rest,
        lambda: f"{key}:{rest.strip()}\n",
        lambda: line + rng.choice(lines),
        lambda: f"{key.upper()}:{rest}",
        lambda: spoilt(rng, line),
    ])()  # fmt: skip
    content = "".join([*lines[:at], new, *lines[at + 1 :]])
    before, after = Counter("".join(lines).splitlines()), Counter(content.splitlines())
    return Mutant("text", path.name, content, words_of([*(before - after), *(after - before)]))


def flat(tree, opening=""):
    """Each value and each group by its path."""
    found = {}
    for key, value in tree.items():
        found[f"{opening}{key}"] = value
        if isinstance(value, dict):
            found |= flat(value, f"{opening}{key}.")
    return found


def params_mutant(rng, base):
    others = "mnist_root trian.epochs run.x 5 train.5"
    known = [path for file in files(base) for path in flat(yaml.safe_load(file.read_text()))]
    keys = [*known, *others.split()]
    key = rng.choice([*keys, misspelt(rng, rng.choice(keys))])
    return Mutant("params", key, f"{key}={rng.choice(PIECES)}", {key.rpartition(".")[2], key.partition(".")[0]})


def judge(mutant, session):
    """("refused" | "valid" | "WRONG", what was said)."""
    params = {}
    if mutant.kind == "params":
        try:
            params = run_command.make_context("run", ["--params=" + mutant.content]).params["params"]
        except click.UsageError as error:
            return "refused" if named(mutant, str(error)) else "WRONG", str(error)
        except Exception as error:
            return "WRONG", repr(error)
    session._store["runtime_params"] = params
    try:
        context = session.load_context()
    except ConfigError as error:
        said = str(error)
    except Exception as error:
        return "WRONG", repr(error)
    else:
        mutant.parameters = context.config_loader["parameters"]
        wrong = out_of_range(mutant.parameters, context.config_loader["globals"])
        return ("WRONG", wrong) if wrong else ("valid", "")
    in_file = re.search(rf"base/{re.escape(mutant.file)}(, line \d+)?: .", said)
    return ("refused" if in_file or named(mutant, said) else "WRONG"), said


def named(mutant, said):
    return any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said) for name in mutant.names)


KINDS = [f"evaluate.kinds.{kind}" for kind in Kinds.model_fields]
NULL = ("evaluate.images", "generate.label", "compare.runs", "ingest.folder.path", "ingest.npz.path")
BOOLEAN = ("train.resume", "train.compile", "model.conditional", *KINDS)


def out_of_range(parameters, places):
    """What is nonsense in parameters that were accepted, by rules of this file's own."""
    wrong = []
    for path, value in flat(parameters | places).items():
        if path == "run":
            right = re.fullmatch(r"(?!.*\.\.)[\w.-]{1,64}", str(value), re.ASCII)
        elif isinstance(value, int | float):
            right = 0 <= value < 2**63 and (not isinstance(value, bool) or path in BOOLEAN)
        elif value is None:
            right = path in NULL
        else:
            right = isinstance(value, dict | list) or (isinstance(value, str) and 0 < len(value) < 300)
        wrong += [] if right else [f"{path}={value!r}"]
    return wrong


def try_out(project, base, mutant, number):
    """Really train with it: "trained", "refused", or "not tried" if that would take more than a second or two."""
    overrides = {key: value for key, value in TINY.items() if key.rpartition(".")[2] not in mutant.names}
    with applied(mutant, base):
        values = flat(mutant.parameters) | overrides
        if (
            values["train.epochs"] > 4
            or values["model.mlp.hidden_dim"] > 600
            or values["model.latent_dim"] > 100
            or values["train.batch_size"] < 20
            or values["train.threads"] not in (1, 2, "auto")
            or values["train.compile"] is True
            or mutant.names & {"run", "data_root"}  # it may be stored elsewhere
        ):
            return "not tried"
        words = ",".join(f"{key}={value}" for key, value in (overrides | {"run": f"m{number}"}).items())
        words += f",{mutant.content}" if mutant.kind == "params" else ""
        result = project.invoke("--pipelines=train", "--params=" + words)
    if result.exit_code == 0:
        history = pd.read_csv(project.path("07_model_output", f"m{number}", "history.csv"))
        assert history.map(math.isfinite).all(axis=None), mutant.content
        return "trained"
    assert "Error: " in result.output
    assert isinstance(result.exception, SystemExit), result.exception
    return "refused"


@contextlib.contextmanager
def applied(mutant, base):
    if mutant.kind == "params":
        yield
        return
    path = base / mutant.file
    before = path.read_text()
    path.write_text(mutant.content)
    yield
    path.write_text(before)


def files(base):
    return [*sorted(base.glob("parameters_*.yml")), base / "globals.yml"]


def words_of(lines):
    """The keys of lines, or all of a line that has none; comments have none."""
    bare = [re.split(end, line.partition("#")[0])[0].strip() for line in lines for end in (":", ": ")]
    # `yes: 1` has the key True, `010: 1` the key 8: a message names them as they were read
    read = [str(as_read(word)) for word in bare if word]
    return {*filter(None, bare), *read}


def as_read(word):
    try:
        return next(iter(OmegaConf.create(f"{word}: 1")), word)
    except Exception:  # it cannot be read
        return word


def misspelt(rng, key):
    at = rng.randrange(len(key))
    return rng.choice([key[:at] + key[at + 1 :] or "x", key[:at] + "x" + key[at:], key[:at] + key[at:][::-1] + "q"])


def spoilt(rng, line):
    at = rng.randrange(len(line))
    return line[:at] + rng.choice(list(":#[]{}&*!|>'\"%@`,-? \t\\\u2028\u00a0\r")) + line[at + rng.randrange(2) :]

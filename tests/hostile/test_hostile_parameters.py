"""Wrong parameters, made at random: each ends in a message that names the key, or is in range and runs."""

import contextlib
import math
import random
import re
from collections import Counter
from functools import reduce

import click
import pandas as pd
import pytest
import yaml
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from omegaconf import OmegaConf

from vae_mnist.cli import run as run_command
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


class Mutant:
    """One wrong text of one file, or one --params; `names` are those that a message may name."""

    def __init__(self, kind, file, content, names):
        self.kind, self.file, self.content, self.names = kind, file, content, names
        self.parameters = {}  # as they were read, of one that is in range


@pytest.mark.parametrize(
    ("mutations", "runs"), [(60, 3), pytest.param(1000, 24, marks=pytest.mark.slow)], ids=["few", "many"]
)
@pytest.mark.usefixtures("ingested")
def test_mutations_are_refused_by_name_or_in_range_and_run(project, mutations, runs):
    base = project.root / "conf" / "base"
    bootstrap_project(project.root)
    rng, counts, valid, failures = random.Random(SEED), Counter(), [], []
    with contextlib.chdir(project.root), KedroSession.create(project.root) as session:
        for _ in range(mutations):
            mutant = rng.choice([text_mutant, text_mutant, params_mutant])(rng, base)
            with applied(mutant, base):
                outcome, said = judge(mutant, session)
            counts[mutant.kind, outcome] += 1
            if outcome == "valid":
                valid.append(mutant)
            if outcome == "WRONG":
                failures.append(f"{mutant.kind} {mutant.file} {mutant.content[-200:]!r}\n -> {said}")
    print({" ".join(kind): count for kind, count in sorted(counts.items())})
    assert not failures, f"{len(failures)} of {mutations}\n" + "\n".join(failures[:20])
    assert {outcome for _, outcome in counts} == {"refused", "valid"}

    trained = Counter()
    for number, mutant in enumerate(sorted(valid, key=lambda mutant: -decides_training(mutant))):
        if trained["trained"] + trained["refused"] < runs:
            trained[try_out(project, base, mutant, number)] += 1
    print(dict(trained))
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
    changed = [*lines[:at], new, *lines[at + 1 :]]
    content = "".join(changed).encode()
    odd, where = rng.random(), rng.randrange(len(content))
    if odd < 0.04:
        content = rng.choice([b"", b"\n", b"# x\n", b"- a\n- b\n", b"text\n", b"5\n", b"5: x\n", b"[]\n", None])
    elif odd < 0.07:
        content = path.read_bytes()[:where]
    elif odd < 0.10:
        piece = rng.choice([b"\xff", b"\x00", b"\xc3", bytes(rng.randbytes(20)), b"\xef\xbb\xbf"])
        content = content[:where] + piece + content[where:]
    before = Counter("".join(lines).splitlines())
    after = Counter((content or b"").decode(errors="replace").splitlines())
    return Mutant("text", path.name, content, words_of([*(before - after), *(after - before)]))


def paths(tree, above=()):
    """The keys that lead to each value and each group."""
    for key, value in tree.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from paths(value, (*above, key))


def at(tree, path):
    return reduce(lambda group, key: group[key], path, tree)


def params_mutant(rng, base):
    others = "mnist_root trian.epochs run.x 5 train.5"
    known = [".".join(path) for file in files(base) for path in paths(yaml.safe_load(file.read_text()))]
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


def out_of_range(parameters, places):
    """What is nonsense in parameters that were accepted, by rules of this file's own."""
    wrong = []
    for path in paths(parameters):
        value = at(parameters, path)
        if isinstance(value, int | float):
            right = 0 <= value < 2**63 and (not isinstance(value, bool) or path[-1] in ("resume", "compile"))
        else:
            right = isinstance(value, dict | list) or (isinstance(value, str) and 0 < len(value) < 300)
        wrong += [] if right else [f"{'.'.join(path)}={value!r}"]
    wrong += [
        f"{key}={value!r}" for key, value in places.items() if key != "run" and not (isinstance(value, str) and value)
    ]
    name = str(parameters["run"])
    return wrong + ([] if re.fullmatch(r"[\w.-]{1,64}", name, re.ASCII) and ".." not in name else [f"run={name!r}"])


def decides_training(mutant):
    return any(group in mutant.file for group in ("train", "model", "objective"))


def try_out(project, base, mutant, number):
    """Really train with it: "trained", "refused", or "not tried" if that would take more than a second or two."""
    overrides = {key: value for key, value in TINY.items() if key.rpartition(".")[2] not in mutant.names}
    with applied(mutant, base):
        values = {
            ".".join(path): at(mutant.parameters, path)
            for path in paths(mutant.parameters)
            if path[0] in ("train", "model")
        } | overrides
        if (
            values["train.epochs"] > 4
            or values["model.mlp.hidden_dim"] > 600
            or values["model.latent_dim"] > 100
            or values["train.batch_size"] < 20
            or values["train.threads"] not in (1, 2, "auto")
            or values["train.compile"]
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
    assert result.output.rpartition("Error: ")[2], result.output
    assert isinstance(result.exception, SystemExit), result.exception
    return "refused"


@contextlib.contextmanager
def applied(mutant, base):
    path = base / mutant.file
    if mutant.kind == "params":
        yield
        return
    before = path.read_bytes()
    try:
        path.unlink() if mutant.content is None else path.write_bytes(mutant.content)
        yield
    finally:
        path.write_bytes(before)


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


@pytest.mark.parametrize("words", ["run=../../up", "run=con", "data_root=" + "x" * 300, "mnist_root=" + "x" * 300])
def test_a_hostile_name_makes_nothing_inside_or_outside_the_data_folder(project, words):
    before = sorted(project.root.parent.rglob("*"))
    result = project.invoke("--pipelines=ingest,train,generate", f"--params={words}")
    assert result.exit_code == 1
    key = words.partition("=")[0]
    assert f"Error: wrong parameters, nothing was run:\n  {key}: expected " in result.output
    assert sorted(project.root.parent.rglob("*")) == before

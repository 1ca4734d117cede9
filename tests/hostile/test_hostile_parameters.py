"""A thousand wrong parameters: each ends in a message that names the key, or is in range and runs."""

import contextlib
import json
import math
import random
import re
from collections import Counter

import click
import pandas as pd
import pytest
import yaml
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from vae_mnist.cli import run as run_command
from vae_mnist.config.parameters import GROUPS
from vae_mnist.errors import ConfigError

from ..helpers.project import TINY, Project, as_params

SEED, MUTATIONS, RUNS = 20261122, 1000, 24

# Written down a second time on purpose: a bound that goes missing in config/parameters.py shows here.
BOUNDS = {
    "ingest.validation_size": (0, 10**9),
    "model.latent_dim": (1, 4096),
    "model.hidden_dim": (1, 65_536),
    "objective.beta": (0, 10_000),
    "train.epochs": (1, 1_000_000),
    "train.batch_size": (1, 1_048_576),
    "train.learning_rate": (5e-324, 10),
    "train.warmup_steps": (0, 10**9),
    "train.adam_beta1": (0, 1 - 2**-53),
    "train.adam_beta2": (0, 1 - 2**-53),
    "train.seed": (0, 2**63 - 1),
    "train.threads": (1, 1024),
    "train.processes": (1, 64),
    "evaluate.importance_samples": (1, 1_000_000),
    "evaluate.seed": (0, 2**63 - 1),
    "evaluate.chunk_size": (1, 16_777_216),
    "report.seed": (0, 2**63 - 1),
    "report.sample_side": (1, 32),
    "report.reconstructions": (1, 200),
    "report.interpolation_pairs": (1, 20),
    "report.interpolation_steps": (2, 40),
    "report.traversal_dims": (1, 64),
    "report.traversal_steps": (2, 41),
    "report.traversal_range": (5e-324, 10),
    "report.animation_frames": (1, 1000),
    "report.animation_frame_ms": (20, 10_000),
    "generate.count": (1, 100_000),
    "generate.seed": (0, 2**63 - 1),
}

# Pieces of YAML, each of which has its own way to be no plain value.
PIECES = [
    "", "~", "null", "???", "yes", "no", "on", "true", "auto", "newest", "cpu", "mnist", "'1'", "abc", "é", "|", ">",
    "-",
    "0", "-1", "1", "3", "+7", "010", "0o17", "0x10", "1:30", "1_000", "1e3", "1e400", "0.5", "-0.0", ".nan", ".inf",
    "-.inf", "1e-400", "2024-01-01", "2024-13-45", "9" * 30, "9" * 5000, "-" + "9" * 5000, "0x" + "f" * 5000, "${",
    "${}",
    "${nope}", "${globals:nope}", "${globals:run}", "${runtime_params:nope}", "${oc.env:HOME}", "${train}", "[1]", "[",
    "{", "{a: 1}", "{a", "*x", "&x [*x]", "!!python/object:os.system x", "!!float x", "!!binary AAAA", "a: b", "@x",
    "%x",
    "`x`", "'", '"', '"\\0"', '"\\ud800"', "# x", "[" * 400, "../up", "/abs", "x" * 300, "con", "Nul.txt", "a.", "\t1",
]  # fmt: skip

# As YAML has them after reading.
VALUES = [
    None, True, False, 0, 1, 2, 3, 5, 20, 64, -1, -(10**9), 10**7, 10**10, 2**63, 2**64, 10**400, 0.0, 1.0, -0.0, 0.5,
    9.99,
    10.1, 1e-300, 1e308, 10_001.0, math.nan, math.inf, -math.inf, "", "1", "auto", "cpu", "tpu", "cuda:128", "cuda:007",
    "float32", "sample", "dynamic", "none", "newest", "vae_epoch_002", "vae_epoch_\u0661\u0661\u0661",
    "../x", "a\0b", "x" * 300,
    [], [1], [[]], {}, {"a": 1}, {5: 6}, {"epochs": 3},
]  # fmt: skip


class Mutant:
    """One wrong text of one file, or one --params; `names` are those that a message may name."""

    def __init__(self, kind, file, content, names):
        self.kind, self.file, self.content, self.names = kind, file, content, names
        self.parameters = {}  # as they were read, of one that is in range


@pytest.mark.slow
def test_a_thousand_mutations_are_refused_by_name_or_in_range_and_run(tmp_path):
    project = Project(tmp_path / "project")
    assert project.invoke("--pipeline=ingest").exit_code == 0
    base = project.root / "conf" / "base"
    bootstrap_project(project.root)
    rng, counts, valid, failures = random.Random(SEED), Counter(), [], []
    with contextlib.chdir(project.root), KedroSession.create(project.root) as session:
        for _ in range(MUTATIONS):
            mutant = rng.choice([text_mutant, text_mutant, value_mutant, params_mutant])(rng, base)
            with applied(mutant, base):
                outcome, said = judge(mutant, session)
            counts[mutant.kind, outcome] += 1
            if outcome == "valid":
                valid.append(mutant)
            if outcome == "WRONG":
                failures.append(f"{mutant.kind} {mutant.file} {mutant.content[-200:]!r}\n -> {said}")
    print({" ".join(kind): count for kind, count in sorted(counts.items())})
    assert not failures, f"{len(failures)} of {MUTATIONS}\n" + "\n".join(failures[:20])
    assert min(sum(count for (_, is_), count in counts.items() if is_ == kind) for kind in ("refused", "valid")) > 50

    trained = Counter(try_out(project, base, mutant, number) for number, mutant in enumerate(ordered(valid, rng)))
    print(dict(trained))
    assert trained["trained"] >= 20


def text_mutant(rng, base):
    path = rng.choice(files(base))
    lines = path.read_text().splitlines(keepends=True)
    at = rng.choice([n for n, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")])
    line = lines[at]
    key, _, rest = line.partition(":")
    indent = key[: len(key) - len(key.lstrip())]
    other = rng.choice(lines)
    new = rng.choice(
        [
            *[lambda: key + ": " + rng.choice(PIECES) + "\n"] * 12,
            lambda: "",
            lambda: line + line,
            lambda: line + indent + rng.choice(PIECES) + ": 1\n",
            lambda: (
                indent
                + rng.choice(["5", "1.5", "true", "~", "[a]", "<<", "2024-01-01", "b", "!!binary AA=="])
                + ":"
                + rest
            ),
            lambda: indent + misspelt(rng, key.strip()) + ":" + rest,
            lambda: "\t" + line,
            lambda: " " + line,
            line.lstrip,
            lambda: key + rest,
            lambda: key + ":" + rest.strip() + "\n",
            lambda: line + other,
            lambda: key.upper() + ":" + rest,
            lambda: spoilt(rng, line),
        ]
    )()
    changed = [*lines[:at], new, *lines[at + 1 :]]
    content = "".join(changed).encode()
    odd = rng.random()
    if odd < 0.04:
        content = rng.choice([b"", b"\n", b"# x\n", b"- a\n- b\n", b"text\n", b"5\n", b"5: x\n", b"[]\n", None])
    elif odd < 0.07:
        content = "".join(lines).encode()[: rng.randrange(len("".join(lines)))]
    elif odd < 0.10:
        where = rng.randrange(len(content))
        content = (
            content[:where]
            + rng.choice([b"\xff", b"\x00", b"\xc3", bytes(rng.randbytes(20)), b"\xef\xbb\xbf"])
            + content[where:]
        )
    before = Counter("".join(lines).splitlines())
    after = Counter((content or b"").decode(errors="replace").splitlines())
    return Mutant("text", path.name, content, words_of([*(before - after), *(after - before)]))


def value_mutant(rng, base):
    path = rng.choice(files(base))
    content = yaml.safe_load(path.read_text())
    group = next(iter(content)) if isinstance(next(iter(content.values())), dict) else None
    inner = content[group] if group else content
    key = rng.choice(list(inner))
    changed = rng.choice(["value"] * 8 + ["typo", "gone", "more"])
    names = {key}
    if changed == "value":
        inner[key] = rng.choice(VALUES)
    elif changed == "typo":
        names.add(typo := misspelt(rng, key))
        inner[typo] = inner.pop(key)
    elif changed == "gone":
        del inner[key]
    else:
        names.add(more := rng.choice(["extra", key + "s", "5"]))
        inner[int(more) if more == "5" else more] = rng.choice(VALUES)
    names |= {group} if group and not inner else set()
    return Mutant("value", path.name, yaml.safe_dump(content, allow_unicode=True).encode(), names)


def params_mutant(rng, base):
    keys = [
        *TINY,
        *BOUNDS,
        "run",
        "data_root",
        "mnist_root",
        "train",
        "trian.epochs",
        "run.x",
        "5",
        "train.5",
        "train.resume",
        "train.compile",
    ]
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
    for group, kind in GROUPS.items():
        kind(**parameters[group])
        for name, value in parameters[group].items():
            key = f"{group}.{name}"
            if key in BOUNDS and not (key == "train.threads" and value == "auto"):
                low, high = BOUNDS[key]
                if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                    wrong.append(f"{key}={value!r}")
            elif key not in BOUNDS and not isinstance(value, bool if name in ("resume", "compile") else str):
                wrong.append(f"{key}={value!r}")
    wrong += [
        f"{key}={value!r}" for key, value in places.items() if key != "run" and not (isinstance(value, str) and value)
    ]
    name = str(parameters["run"])
    return wrong + ([] if re.fullmatch(r"[\w.-]{1,64}", name, re.ASCII) and ".." not in name else [f"run={name!r}"])


def ordered(valid, rng):
    """All of them, those first that decide how training goes."""
    chosen = []
    for mutant in rng.sample(valid, len(valid)):
        decides = any(group in mutant.file for group in ("train", "model", "objective"))
        chosen.insert(0 if decides else len(chosen), mutant)
    return chosen


def try_out(project, base, mutant, number):
    """Really train with it: "trained", "refused", or "large" for one that would take more than a second or two."""
    try_out.done = getattr(try_out, "done", 0)
    if try_out.done >= RUNS:
        return "not tried"
    overrides = {key: value for key, value in TINY.items() if key.rpartition(".")[2] not in mutant.names} | {
        "run": f"m{number}"
    }
    with applied(mutant, base):
        values = {
            f"{group}.{name}": value for group in ("train", "model") for name, value in mutant.parameters[group].items()
        } | overrides
        words = ",".join(f"{key}={value}" for key, value in overrides.items())
        if mutant.kind == "params":
            words += "," + mutant.content
        if values["train.epochs"] > 4 or values["model.hidden_dim"] > 600 or values["model.latent_dim"] > 100:
            return "large"
        if (
            values["train.batch_size"] < 20
            or values["train.threads"] not in (1, 2, "auto")
            or values["train.processes"] > 1
            or values["train.compile"]
        ):
            return "large"
        result = project.invoke("--pipeline=train", "--params=" + words)
    try_out.done += 1
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
    bare = [line.partition("#")[0].partition(":")[0].strip() for line in lines]
    # `yes: 1` has the key True, `010: 1` the key 8: a message names them as they were read
    read = [str(as_read(word)) for word in bare if word]
    return {*filter(None, bare), *read}


def as_read(word):
    try:
        return yaml.safe_load(word)
    except (yaml.YAMLError, ValueError):
        return word


def misspelt(rng, key):
    at = rng.randrange(len(key))
    return rng.choice([key[:at] + key[at + 1 :] or "x", key[:at] + "x" + key[at:], key[:at] + key[at:][::-1] + "q"])


def spoilt(rng, line):
    at = rng.randrange(len(line))
    return line[:at] + rng.choice(list(":#[]{}&*!|>'\"%@`,-? \t\\\u2028\u00a0\r")) + line[at + rng.randrange(2) :]


HOSTILE = {
    "run": [
        "../up",
        "..",
        "/abs/up",
        "a/b",
        "a\\b",
        "a\0b",
        "x" * 300,
        "con",
        "NUL.txt",
        "com1",
        "end.",
        "",
        ".x",
        "a b",
        "\n",
    ],
    "data_root": ["", "a\0b", "x" * 300, "a/" * 3000, None, ["data"]],
    "mnist_root": ["", "a\0b", "x" * 300, "a/" * 3000],
    "generate.checkpoint": [
        "../default/vae_epoch_001",
        "/etc/passwd",
        "a\0b",
        "x" * 300,
        "vae_epoch_001.pt",
        "con",
        "",
    ],
}


@pytest.mark.parametrize(("key", "name"), [(key, name) for key, names in HOSTILE.items() for name in names])
def test_a_hostile_name_makes_nothing_inside_or_outside_the_data_folder(project, key, name):
    base = project.root / "conf" / "base"
    group, _, last = key.rpartition(".")
    path = base / (f"parameters_{group}.yml" if group else "globals.yml")
    content = yaml.safe_load(path.read_text())
    (content[group] if group else content)[last] = name
    path.write_text(json.dumps(content))  # JSON is YAML, and can write every character down
    before = sorted(project.root.parent.rglob("*"))
    result = project.invoke("--pipelines=ingest,train,generate", as_params(train__epochs=1))
    assert result.exit_code == 1, result.output
    assert f"Error: wrong parameters, nothing was run:\n  {key}: expected " in result.output
    assert isinstance(result.exception, SystemExit)
    assert sorted(project.root.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "words", ["run=../../up", "run=con", "data_root=" + "x" * 300, "mnist_root=" + "x" * 300, "run=/tmp/up"]
)
def test_a_hostile_name_on_the_command_line_ends_in_one_message(project, words):
    before = sorted(project.root.parent.rglob("*"))
    result = project.kedro("run", f"--params={words}")
    assert result.returncode == 1
    assert result.stderr.startswith(
        f"Error: wrong parameters, nothing was run:\n  {words.partition('=')[0]}: expected "
    )
    assert "Traceback" not in result.stdout + result.stderr
    after = [path for path in sorted(project.root.parent.rglob("*")) if "__pycache__" not in path.parts]
    assert after == before

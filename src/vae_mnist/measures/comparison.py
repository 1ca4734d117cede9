"""Runs side by side: which measures compare, which run is best, and whether the others differ from it."""

import re
from collections.abc import Hashable, Iterable, Sequence
from math import sqrt
from os.path import commonprefix
from statistics import mean, stdev
from typing import Any, NamedTuple

from .bounds import Mean
from .measured import Measured, Value
from .runs import Run

Z95 = 1.96  # standard errors on each side of an estimate that a 95 % interval has
SEED, BETA = "train.seed", "objective.beta"
# Settings of a measure that may differ between the runs of a column.
FREE = frozenset({"epoch", "precision", "chunk_size"})
# With these, a measure is one of many: dimension 3 of a model has nothing to do with dimension 3 of another, and
# a table needs no column for each class.
ONE_OF_MANY = frozenset({"dimension", "group", "class"})


class Difference(NamedTuple):
    """Of a run to the best, with a 95 % interval."""

    value: float
    low: float
    high: float
    paired: bool  # image by image

    @property
    def differs(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


class Cell(NamedTuple):
    """A measure of a run, or its mean over the seeds of a family."""

    value: float
    spread: float | None  # standard error over images; of a family the standard deviation over seeds
    best: bool = False
    difference: Difference | None = None  # None: this is the best, or not enough is known


class Column(NamedTuple):
    """A measure of all runs that have it, measured in the same way on the same data."""

    name: str
    apart: str  # what sets it apart from other columns of that name
    measures: dict[str, Measured]  # by the run's name

    @property
    def label(self) -> str:
        """Another for each column."""
        return f"{self.name} ({self.apart})" if self.apart else self.name

    @property
    def first(self) -> Measured:
        """Any of them: what it says of the measure is true of all."""
        return next(iter(self.measures.values()))

    @property
    def unit(self) -> str:
        """Empty where it differs: units of models with other numbers of dimensions."""
        units = {each.unit for each in self.measures.values()}
        return units.pop() if len(units) == 1 else ""

    @property
    def ranked(self) -> bool:
        """Whether there is a best one: losses of different objectives do not compare."""
        objectives = {
            tuple(item for item in each.settings.items() if item[0].startswith("objective."))
            for each in self.measures.values()
        }
        return self.first.better is not None and len(objectives) == 1


class Row(NamedTuple):
    """A run, or a family."""

    name: str
    settings: dict[str, str]
    epochs: int | None
    parameters: int | None
    cpu_seconds: float | None  # of a family the mean
    cells: dict[str, Cell]  # by the column's label
    remarks: list[str]
    seeds: int = 0  # 0: a single run


class Table(NamedTuple):
    """Runs on the same data."""

    data: str  # its title
    sha256: tuple[str, ...]  # of its splits
    settings: list[str]  # that differ between the runs
    columns: list[Column]
    rows: list[Row]


def tables(runs: Sequence[Run]) -> list[Table]:
    """A table for each data set, the one with most runs first; families after their runs."""
    groups = _grouped(runs, lambda run: run.sha256)
    return [_table(group) for group in sorted(groups, key=len, reverse=True)]


def columns(runs: Iterable[Run]) -> list[Column]:
    """The measures that are compared: one column for each name, data and settings, such as the number of samples."""
    found: dict[Hashable, dict[str, Measured]] = {}
    for run in runs:
        for measure in run.measured:
            if ONE_OF_MANY.isdisjoint(measure.settings):
                found.setdefault(_key(measure), {})[run.name] = measure
    every = [next(iter(measures.values())) for measures in found.values()]
    return [Column(one.name, _apart(one, every), found[_key(one)]) for one in every]


def difference(run: Run, best: Run, column: Column) -> Difference | None:
    """Of a run to the best of a column: image by image where both have the bounds of the same images.

    The standard error of the mean of differences is then far below those of the two means, because an image that is
    difficult for one model is difficult for the other. None if a standard error is not known.
    """
    one, other = column.measures[run.name], column.measures[best.name]
    pairs, others = run.values_of(one), best.values_of(other)
    if pairs and others and pairs[1] == others[1] and len(pairs[0]) == len(others[0]) > 1:
        value, error = Mean.of(pairs[0] - others[0])
        return Difference(value, value - Z95 * error, value + Z95 * error, paired=True)
    if one.standard_error is None or other.standard_error is None:
        return None
    value, error = one.value - other.value, sqrt(one.standard_error**2 + other.standard_error**2)
    return Difference(value, value - Z95 * error, value + Z95 * error, paired=False)


def families(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that differ in the seed of training only, at least two; of runs with one seed the first."""
    found = []
    for group in _grouped([run for run in runs if isinstance(run.settings.get(SEED), int)], _family):
        by_seed = {run.settings[SEED]: run for run in reversed(group)}
        if len(by_seed) > 1:
            found.append([by_seed[seed] for seed in sorted(by_seed)])
    return found


def family_name(runs: Sequence[Run]) -> str:
    """What the names of runs begin with, default of default-seed0 and default-seed1; else the first name."""
    start = commonprefix([run.name for run in runs])  # noqa: RUF071 of letters, not of folders
    start = re.sub(r"([-_.]+(seed)?|seed)\d*$", "", start)
    return f"{start or runs[0].name} ({len(runs)} seeds)"


def _table(runs: list[Run]) -> Table:
    keys = sorted({key for run in runs for key in run.settings})
    # One that some runs do not have belongs to a choice, which differs itself.
    differing = [key for key in keys if len({repr(run.settings[key]) for run in runs if key in run.settings}) > 1]
    measured = columns(runs)
    by_name = {run.name: run for run in runs}
    cells: dict[str, dict[str, Cell]] = {run.name: {} for run in runs}
    for column in measured:
        best = _best(column) if column.ranked else None
        for name, measure in column.measures.items():
            other = best if best and name != best else None
            apart = difference(by_name[name], by_name[other], column) if other else None
            cells[name][column.label] = Cell(measure.value, measure.standard_error, name == best, apart)
    rows = [
        Row(
            run.name,
            {key: shown(run.settings[key]) for key in differing if key in run.settings},
            *(run.epochs, run.parameters, run.cpu_seconds, cells[run.name], run.remarks),
        )
        for run in runs
    ]
    rows += [_family_row(family, differing, measured) for family in families(runs)]
    return Table(runs[0].data, runs[0].sha256, differing, measured, rows)


def _family_row(runs: list[Run], differing: list[str], measured: list[Column]) -> Row:
    settings = {key: shown(runs[0].settings[key]) for key in differing if key in runs[0].settings}
    settings[SEED] = shown([run.settings[SEED] for run in runs])
    cells = {}
    for column in measured:
        if column.measures.keys() >= {run.name for run in runs}:
            values = [column.measures[run.name].value for run in runs]
            cells[column.label] = Cell(mean(values), stdev(values))
    seconds = [run.cpu_seconds for run in runs if run.cpu_seconds is not None]
    spent = mean(seconds) if len(seconds) == len(runs) else None
    return Row(family_name(runs), settings, runs[0].epochs, runs[0].parameters, spent, cells, [], len(runs))


def _best(column: Column) -> str:
    choose = min if column.first.better == "lower" else max
    return choose(column.measures, key=lambda name: column.measures[name].value)


def _family(run: Run) -> Hashable:
    settings = sorted((key, repr(value)) for key, value in run.settings.items() if key != SEED)
    return run.epochs, tuple(settings)


def _key(measure: Measured) -> Hashable:
    return measure.name, measure.data, tuple(_settings(measure).items())


def _settings(measure: Measured) -> dict[str, Value]:
    kept = (key for key in sorted(measure.settings) if key not in FREE and not key.startswith("objective."))
    return {key: measure.settings[key] for key in kept}


def _apart(one: Measured, every: Sequence[Measured]) -> str:
    """Phrases about its data that not all of its name have; if those of another are the same, settings as well."""
    same = [each.data.split(", ") for each in every if each.name == one.name]
    apart = [phrase for phrase in one.data.split(", ") if not all(phrase in phrases for phrases in same)]
    alike = [_settings(each) for each in every if (each.name, each.data) == (one.name, one.data)]
    differing = [key for key, value in _settings(one).items() if any(each.get(key) != value for each in alike)]
    of_all = [key for key in differing if all(key in each for each in alike)]
    kept = (key for key in of_all or differing if not key.endswith("sha256"))
    return ", ".join([*apart, *(f"{key} {shown(_settings(one)[key])}" for key in kept)])


def shown(value: object) -> str:
    """A setting in a table."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _grouped(runs: Iterable[Run], key: Any) -> list[list[Run]]:  # noqa: ANN401 any function of a run
    groups: dict[Hashable, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return list(groups.values())

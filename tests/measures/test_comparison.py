"""Differences and families, held against values computed by hand and against what must come out."""

from math import sqrt
from statistics import stdev

import pytest
import torch

from vae_mnist.measures.comparison import columns, difference, families, family_name, tables

from .test_runs import PIXELS, measure, run


def with_bounds(name, values, images=PIXELS, **changes):
    values = torch.tensor(values, dtype=torch.float32)
    measured = measure(value=values.double().mean().item(), error=values.double().std().item() / sqrt(len(values)))
    return run([measured], {"neg_elbo": values, "neg_elbo_images": images}, name=name, **changes)


def apart(one, other):
    (column,) = columns([one, other])
    return difference(one, other, column)


def test_a_difference_is_taken_image_by_image():
    """Hand-computed: differences 1, 3, 2, 2 have the mean 2 and the standard error sqrt(2/3)/2."""
    found = apart(with_bounds("a", [11.0, 23.0, 52.0, 92.0]), with_bounds("b", [10.0, 20.0, 50.0, 90.0]))
    error = sqrt(2 / 3) / 2
    assert found == pytest.approx((2.0, 2 - 1.96 * error, 2 + 1.96 * error, True))
    assert found.differs


@pytest.mark.parametrize(
    "other",
    [
        with_bounds("b", [10.0, 20.0, 50.0, 90.0], images=PIXELS + 1),
        with_bounds("b", [10.0, 20.0, 50.0]),
        with_bounds("b", [10.0, 20.0, 50.0, 90.0])._replace(of_images={}),
    ],
    ids=["other images", "fewer images", "none kept"],
)
def test_only_bounds_of_the_same_images_are_paired(other):
    one = with_bounds("a", [11.0, 23.0, 52.0, 92.0])
    found = apart(one, other)
    error = sqrt(one.measured[0].standard_error ** 2 + other.measured[0].standard_error ** 2)
    value = one.measured[0].value - other.measured[0].value
    assert found == pytest.approx((value, value - 1.96 * error, value + 1.96 * error, False))
    assert not found.differs


def test_nothing_is_said_where_a_standard_error_is_not_known():
    one, other = run([measure(error=None)], name="a"), run([measure(value=9.0)], name="b")
    assert apart(one, other) is None


def test_the_interval_holds_the_true_difference_in_95_of_100_cases():
    generator = torch.Generator().manual_seed(0)
    held = 0
    for _ in range(1000):
        shared = 10 * torch.randn(200, generator=generator) + 100
        one, other = (shared + torch.randn(200, generator=generator) + shift for shift in (0.5, 0.0))
        found = apart(with_bounds("a", one.tolist()), with_bounds("b", other.tolist()))
        assert found.paired
        held += found.low < 0.5 < found.high
    assert 930 <= held <= 970


def test_what_was_measured_in_another_way_has_a_column_of_its_own():
    runs = [
        run([measure(data="images: 9 test images, grey"), measure(data="images: 9 test images, binarised")], name="a"),
        run([measure("nll", samples=50, epoch=2, seed=0), measure("units", better=None)], name="b"),
        run([measure("nll", samples=500, epoch=9, seed=0), measure("nll", samples=50, epoch=3, seed=0)], name="c"),
        run([measure("kl_of_dimension", dimension=3), measure("kl_of_group", group=1)], name="d"),
        run([measure("bits", of="nll", samples=50), measure("bits", of="neg_elbo")], name="e"),
    ]
    found = {column.label: list(column.measures) for column in columns(runs)}
    assert found == {
        "neg_elbo (grey)": ["a"], "neg_elbo (binarised)": ["a"], "nll (samples 50)": ["b", "c"], "units": ["b"],
        "nll (samples 500)": ["c"], "bits (of nll)": ["e"], "bits (of neg_elbo)": ["e"],
    }  # fmt: skip


def test_the_best_is_marked_and_the_others_are_compared_with_it():
    runs = [
        run([measure(value=2.0), measure("accuracy", 0.9, 0.01, "higher")], name="a"),
        run([measure(value=3.0), measure("accuracy", 0.91, 0.01, "higher")], name="b"),
        run([measure(value=2.1), measure("rate", better=None)], name="c"),
    ]
    (table,) = tables(runs)
    a, b, c = (row.cells for row in table.rows)
    assert [cells["neg_elbo"].best for cells in (a, b, c)] == [True, False, False]
    assert [cells["accuracy"].best for cells in (a, b)] == [False, True]
    assert a["accuracy"].difference.value == pytest.approx(-0.01)
    assert not a["accuracy"].difference.differs
    assert b["neg_elbo"].difference.differs
    assert not c["neg_elbo"].difference.differs
    assert (c["rate"].best, c["rate"].difference) == (False, None)
    assert "accuracy" not in c


def test_losses_of_different_objectives_are_not_ranked():
    def losses(*betas):
        runs = [
            run([measure("loss", value=beta, **{"objective.beta": beta})], name=f"run{number}", settings={"at": number})
            for number, beta in enumerate(betas)
        ]
        (table,) = tables(runs)
        return [row.cells["loss"].best for row in table.rows]

    assert losses(1.0, 1.0) == [True, False]
    assert losses(1.0, 4.0) == [False, False]


def test_runs_on_other_data_have_a_table_of_their_own():
    """Also where the title is the same."""
    runs = [run(name="a"), run(name="b", sha256=("1", "x", "3")), run(name="c", sha256=("1", "x", "3"))]
    assert [(table.sha256, [row.name for row in table.rows]) for table in tables(runs)] == [
        (("1", "x", "3"), ["b", "c"]),
        (("1", "2", "3"), ["a"]),
    ]


def test_only_settings_that_differ_are_shown():
    runs = [
        run(name="a", settings={"model.network": "mlp", "model.mlp.hidden_dim": 512, "train.batch_size": 128}),
        run(name="b", settings={"model.network": "conv", "model.conv.channels": [8, 16], "train.batch_size": 128}),
        run(name="c", settings={"model.network": "conv", "model.conv.channels": [8, 32], "train.batch_size": 128}),
        run(name="d", settings={}),
    ]
    (table,) = tables(runs)
    assert table.settings == ["model.conv.channels", "model.network"]
    assert [row.settings for row in table.rows] == [
        {"model.network": "mlp"},
        {"model.network": "conv", "model.conv.channels": "8, 16"},
        {"model.network": "conv", "model.conv.channels": "8, 32"},
        {},
    ]


def seeded(name, seed, value=2.0, **changes):
    settings = {"objective.beta": 1.0, "train.seed": seed} | changes.pop("settings", {})
    return run([measure(value=value)], name=name, settings=settings, **changes)


def test_a_family_has_the_mean_and_the_standard_deviation_over_its_seeds():
    runs = [seeded("z-seed2", 2, 1.0, cpu_seconds=3.0), seeded("z-seed1", 1, 2.0, cpu_seconds=5.0)]
    runs += [seeded("z-seed10", 10, 6.0, cpu_seconds=7.0), seeded("other", 0, 9.0, settings={"objective.beta": 4.0})]
    (table,) = tables(runs)
    family = table.rows[-1]
    assert (family.name, family.seeds, family.cpu_seconds) == ("z (3 seeds)", 3, 5.0)
    assert family.settings == {"objective.beta": "1.0", "train.seed": "1, 2, 10"}
    cell = family.cells["neg_elbo"]
    assert (cell.value, cell.spread) == (3.0, pytest.approx(stdev([1.0, 2.0, 6.0])))
    assert (cell.best, cell.difference) == (False, None)
    assert [row.seeds for row in table.rows] == [0, 0, 0, 0, 3]
    assert table.rows[0].cells["neg_elbo"].best


@pytest.mark.parametrize(
    "other",
    [
        seeded("b", 1, settings={"objective.beta": 2.0}), seeded("b", 1, epochs=3), seeded("b", 0),
        run(name="b", settings={}), run(name="b", settings={"objective.beta": 1.0}),
    ],
    ids=["another setting", "longer", "the same seed", "unknown settings", "unknown seed"],
)  # fmt: skip
def test_other_runs_are_no_family(other):
    assert families([seeded("a", 0), other]) == []


def test_of_two_runs_with_one_seed_the_first_is_of_the_family():
    (family,) = families([seeded("a", 0), seeded("again", 0), seeded("b", 1)])
    assert [run.name for run in family] == ["a", "b"]


def test_a_measure_that_a_member_lacks_has_no_mean():
    (table,) = tables([seeded("a", 0), seeded("b", 1)._replace(measured=[])])
    assert table.rows[-1].cells == {}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["default-seed0", "default-seed1"], "default (2 seeds)"),
        (["default", "default-seed1", "default-seed2"], "default (3 seeds)"),
        (["seed1", "seed10"], "seed1 (2 seeds)"),
        (["a", "b"], "a (2 seeds)"),
        (["z16", "z16-seed1"], "z16 (2 seeds)"),
        (["z-seed1", "z-seed10"], "z (2 seeds)"),
        (["z16_1", "z16_2"], "z16 (2 seeds)"),
    ],
)
def test_the_name_of_a_family_is_what_its_names_begin_with(names, expected):
    assert family_name([run(name=name) for name in names]) == expected

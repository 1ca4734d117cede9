from itertools import combinations

import pytest

from vae_mnist.plots import Point, rate_distortion

POINTS = [
    Point("a", 20.0, 80.0, "mlp", 1.0), Point("a-seed1", 22.0, 78.0, "mlp", 1.0),
    Point("beta4", 10.0, 100.0, "mlp", 4.0), Point("conv", 20.1, 79.9, "conv", 1.0),
    Point("$x$" * 20, 20.0, 80.0, "conv", 2.0),
]  # fmt: skip


def test_a_curve_joins_the_means_of_each_beta(caption):
    (axes,) = rate_distortion({"images": POINTS}, caption).axes
    curves = [
        line.get_xydata().tolist() for line in axes.lines if line.get_linestyle() == "-" and line.get_marker() != "o"
    ]
    assert curves == [[[21.0, 79.0], [10.0, 100.0]], [[20.1, 79.9], [20.0, 80.0]]]
    dots = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert dots == [[[20.0, 80.0], [22.0, 78.0], [10.0, 100.0]], [[20.1, 79.9], [20.0, 80.0]]]


def test_the_bound_is_the_same_along_a_dashed_line(caption):
    (axes,) = rate_distortion({"images": POINTS}, caption).axes
    totals = [line.get_xydata().sum(axis=1) for line in axes.lines if line.get_linestyle() == "--"]
    names = [text.get_text() for text in axes.texts if text.get_text().startswith("negative ELBO")]
    assert len(totals) >= 3
    assert names == [f"negative ELBO {total[0]:g}" for total in totals]
    assert all(total == pytest.approx(total[0]) for total in totals)


@pytest.mark.parametrize("panels", [1, 3])
def test_names_lie_beside_each_other_and_in_the_page(caption, panels):
    figure = rate_distortion({f"images {number}": POINTS for number in range(panels)}, caption)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [f"images {number}" for number in range(panels)]
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts if "ELBO" not in text.get_text()]
        assert len(boxes) == len(POINTS)
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        assert all(box.x1 < figure.bbox.x1 for box in boxes)


def test_one_run_and_none_have_a_page_too(caption):
    rate_distortion({"images": POINTS[:1]}, caption).draw_without_rendering()
    (axes,) = rate_distortion({}, caption).axes
    assert axes.get_title(loc="left") == "no run has rate and distortion"

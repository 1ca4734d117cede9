import numpy as np
import pandas as pd
import pytest

from vae_mnist.plots import interactive_loss_curves, loss_curves


def table(epochs, validation=False):
    splits = ("train", "test", "validation") if validation else ("train", "test")
    columns = {f"{split}_{part}": np.linspace(200, 100, epochs) for split in splits for part in ("loss", "bce", "kld")}
    return pd.DataFrame({"epoch": range(1, epochs + 1), **columns})


@pytest.mark.parametrize("epochs", [1, 3, 200])
@pytest.mark.parametrize("validation", [False, True])
def test_loss_curves_show_three_parts_of_each_split_under_a_caption(epochs, validation, caption):
    losses = table(epochs, validation)
    figure = loss_curves(losses, caption)
    assert [axes.get_title(loc="left").split()[0].rstrip(",") for axes in figure.axes] == ["Loss", "BCE", "KLD"]
    for axes in figure.axes:
        assert len(axes.lines) == (3 if validation else 2)
        assert all(line.get_ydata().tolist() == losses["test_loss"].tolist() for line in axes.lines)
    assert [text.get_text() for text in figure.texts[:2]] == [caption.title, caption.subtitle]


@pytest.mark.parametrize("validation", [False, True])
def test_the_names_of_the_curves_fit_beside_them(validation, caption):
    figure = loss_curves(table(30, validation), caption)
    figure.draw_without_rendering()
    panels = figure.axes
    ends = [max(text.get_window_extent().x1 for text in axes.texts) for axes in panels]
    starts = [axes.yaxis.get_tightbbox().x0 for axes in panels]
    assert all(end < start for end, start in zip(ends, [*starts[1:], figure.bbox.x1], strict=True))


def test_interactive_curves_hold_the_same_numbers_and_words(caption):
    figure = interactive_loss_curves(table(4, validation=True), caption._replace(footer="a word " * 30 + "\nlast"))
    assert len(figure.data) == 9
    assert list(figure.data[0].y) == table(4)["train_loss"].tolist()
    footer = figure.layout.annotations[-1].text.split("<br>")
    assert " ".join(footer) == "a word " * 30 + "last"
    assert max(map(len, footer)) <= 110

import numpy as np
import pandas as pd
import pytest

from vae_mnist.plots import interactive_loss_curves, loss_curves


def table(epochs, validation=False):
    splits = ("train", "validation", "test") if validation else ("train", "test")
    names = [f"{split}_{part}" for part in ("loss", "bce", "kld") for split in splits]
    columns = {name: np.linspace(200 + place, 100, epochs) for place, name in enumerate(names)}
    return pd.DataFrame({"epoch": range(1, epochs + 1), **columns})


@pytest.mark.parametrize("epochs", [1, 3, 200])
@pytest.mark.parametrize("validation", [False, True])
def test_loss_curves_show_three_parts_of_each_split_under_a_caption(epochs, validation, caption):
    losses = table(epochs, validation)
    figure = loss_curves(losses, caption)
    assert [axes.get_title(loc="left").split()[0].rstrip(",") for axes in figure.axes] == ["Loss", "BCE", "KLD"]
    shown = [line.get_ydata().tolist() for axes in figure.axes for line in axes.lines]
    assert shown == [losses[column].tolist() for column in losses.columns[1:]]
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
    losses = table(4, validation=True)
    figure = interactive_loss_curves(losses, caption._replace(footer="a word " * 30 + "\nlast"))
    for trace, column in zip(figure.data, losses.columns[1:], strict=True):
        assert trace.name == column.partition("_")[0]
        assert list(trace.y) == losses[column].tolist()
    footer = figure.layout.annotations[-1].text.split("<br>")
    assert " ".join(footer) == "a word " * 30 + "last"
    assert max(map(len, footer)) <= 110

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.transforms import Bbox

from vae_mnist.plots import interactive_loss_curves, loss_curves


def table(epochs, validation=False, distortion="bce", **further):
    """Losses of the plain bound; `further` columns are added to each split."""
    splits = ("train", "validation", "test") if validation else ("train", "test")
    names = [f"{split}_{part}" for part in ("loss", distortion, "kld") for split in splits]
    columns = {name: np.linspace(200 + place, 100, epochs) for place, name in enumerate(names)}
    columns |= {f"{split}_neg_elbo": columns[f"{split}_loss"] for split in splits}
    columns |= {f"{split}_{name}": values for name, values in further.items() for split in splits}
    return pd.DataFrame({"epoch": range(1, epochs + 1), **columns})


def titles(figure):
    return [axes.get_title(loc="left").partition(",")[0] for axes in figure.axes]


@pytest.mark.parametrize("epochs", [1, 3, 200])
@pytest.mark.parametrize("validation", [False, True])
def test_loss_curves_show_three_parts_of_each_split_under_a_caption(epochs, validation, caption):
    losses = table(epochs, validation)
    figure = loss_curves(losses, caption)
    assert titles(figure) == ["Loss", "BCE (reconstruction)", "KLD (posterior to prior)"]
    assert figure.get_size_inches().tolist() == [12, 4.7]
    shown = [line.get_ydata().tolist() for axes in figure.axes for line in axes.lines]
    assert shown == [losses[column].tolist() for column in losses.columns[1:] if "neg_elbo" not in column]
    assert [text.get_text() for text in figure.texts[:2]] == [caption.title, caption.subtitle]


@pytest.mark.parametrize(("epochs", "fitted"), [(3, False), (4, True)])
def test_losses_after_a_far_larger_first_one_can_be_told_apart(caption, epochs, fitted):
    """As with a KL warm-up; one constant loss has axes too."""
    losses = table(epochs).assign(test_kld=26.0, train_kld=26.0)
    losses.loc[0, ["train_loss", "test_loss"]] = 10_000.0
    loss, _, kld, _ = loss_curves(losses, caption).axes
    low, high = loss.get_ylim()
    later = losses.loc[1:, ["train_loss", "test_loss"]].to_numpy()
    assert low < later.min() < later.max() < high
    assert (high < 200) == fitted
    assert ("after the first" in loss.get_xlabel()) == fitted
    assert kld.get_ylim()[0] < 26 < kld.get_ylim()[1]


def test_panels_follow_the_name_of_the_likelihood(caption):
    losses = table(3, distortion="nll")
    assert titles(loss_curves(losses, caption))[1] == "NLL (reconstruction)"
    assert interactive_loss_curves(losses, caption).layout.annotations[1].text == "NLL"


def test_a_loss_that_is_not_the_plain_bound_is_drawn_beside_it(caption):
    """Two runs compare by the bound, not by what each of them minimised."""
    losses = table(3)
    losses["train_neg_elbo"] += [1.0, 0.0, 0.0]  # a warm-up of the KL, which ends
    figure = loss_curves(losses, caption)
    assert titles(figure) == ["Loss", "BCE (reconstruction)", "KLD (posterior to prior)", "Negative ELBO (beta 1)"]
    shown = [line.get_ydata().tolist() for line in figure.axes[3].lines]
    assert shown == [losses["train_neg_elbo"].tolist(), losses["test_neg_elbo"].tolist()]
    browser = interactive_loss_curves(losses, caption)
    assert [note.text for note in browser.layout.annotations[:4]] == ["Loss", "BCE", "KLD", "Negative ELBO"]
    assert list(browser.data[6].y) == losses["train_neg_elbo"].tolist()


def test_further_terms_of_an_objective_have_a_panel_each(caption):
    further = {"dimension_wise_kl": [3.0, 2.0, 1.0], "mutual_information": [5.0, 4.0, 3.0]}
    losses = table(3, **further).assign(train_gradient_norm=[9.0, 9.0, 9.0])  # which is no loss
    figure, browser = loss_curves(losses, caption), interactive_loss_curves(losses, caption)
    assert titles(figure)[3:] == ["Dimension-wise KL", "Mutual information"]
    assert [len(axes.lines) for axes in figure.axes[3:]] == [2, 2]
    assert [note.text for note in browser.layout.annotations[3:5]] == ["Dimension-wise KL", "Mutual information"]
    assert list(browser.data[-1].y) == losses["test_mutual_information"].tolist()
    assert browser.data[-1].yaxis == "y5"
    assert "nats" not in browser.data[-1].hovertemplate


@pytest.mark.parametrize("further", [0, 1, 5])
@pytest.mark.parametrize("validation", [False, True])
@pytest.mark.parametrize("level", [0, 8000])
def test_panels_and_the_names_of_their_curves_lie_beside_each_other(level, validation, further, caption):
    losses = table(30, validation, **dict.fromkeys("abcde"[:further], range(30)))
    losses[losses.columns[1:]] = level + 98 + losses[losses.columns[1:]] / 16  # numbers with decimals are the widest
    figure = loss_curves(losses, caption)
    figure.draw_without_rendering()
    boxes = []
    for axes in figure.axes:
        names = [text.get_window_extent() for text in axes.texts]
        boxes.append(Bbox.union([axes.get_tightbbox(), *names]))
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    words = [text.get_window_extent() for text in figure.texts]
    assert not any(box.overlaps(text) for box in boxes for text in words)


def test_interactive_curves_hold_the_same_numbers_and_words(caption):
    losses = table(4, validation=True)
    figure = interactive_loss_curves(losses, caption._replace(footer="a word " * 30 + "\nlast"))
    columns = [column for column in losses.columns[1:] if "neg_elbo" not in column]
    for trace, column in zip(figure.data, columns, strict=True):
        assert trace.name == column.partition("_")[0]
        assert list(trace.y) == losses[column].tolist()
    footer = figure.layout.annotations[-1].text.split("<br>")
    assert " ".join(footer) == "a word " * 30 + "last"
    assert max(map(len, footer)) <= 110

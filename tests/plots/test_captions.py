import numpy as np
import pytest
import torch

from vae_mnist.plots import Caption, latent_map, sample_grid
from vae_mnist.plots.pages import FOOTER, HEADER, MARGIN

from .conftest import CARD


def test_a_caption_says_run_epoch_loss_data_source_and_checksums(caption):
    assert caption.subtitle == "run z16  ·  epoch 7  ·  test loss 103.46 nats per image"
    assert "some images: 3 training + 2 test images (files under here)" in caption.footer
    assert "training aaaaaaaaaaaa…, test bbbbbbbbbbbb…" in caption.footer


def test_a_loss_that_is_not_the_negative_elbo_has_it_beside_it():
    row = {"epoch": 7, "test_loss": 101.0, "test_neg_elbo": 105.0, "beta": 1.0}
    subtitle = "run r  ·  epoch 7  ·  test loss 101.00 nats per image"
    assert Caption.of("t", "r", CARD, row).subtitle == f"{subtitle} (negative ELBO 105.00)"
    assert Caption.of("t", "r", CARD, row | {"test_neg_elbo": 101.0}).subtitle == subtitle


def test_a_caption_says_what_is_out_of_the_ordinary():
    caption = Caption.of("t", "r", CARD, {"epoch": 7, "test_loss": 1.0, "beta": 4.0}, note="no density")
    assert caption.subtitle.endswith("beta 4")
    assert caption.footer.endswith("\nLosses: no density.")


@pytest.mark.parametrize(
    ("part", "rows"), [("title", slice(0, 40)), ("subtitle", slice(40, HEADER)), ("footer", slice(-FOOTER, None))]
)
def test_each_part_of_a_caption_has_its_place_on_a_grid(caption, part, rows):
    images = torch.zeros(4, 1, 28, 28)
    with_it = np.asarray(sample_grid(images, 2, caption)).copy()
    without = np.asarray(sample_grid(images, 2, caption._replace(**{part: ""})))
    assert (with_it[rows] != without[rows]).sum() > 100
    with_it[rows] = without[rows]
    assert np.array_equal(with_it, without)


def test_words_longer_than_the_page_lose_their_middle(caption):
    long = Caption(*("begin" + 100 * part + "end" for part in caption))
    page = np.asarray(sample_grid(torch.zeros(4, 1, 28, 28), 2, long))
    assert (page[:, :MARGIN] == 255).all()
    assert (page[:, -MARGIN:] == 255).all()
    figure = latent_map(torch.eye(4), torch.arange(4), long)
    title, subtitle, *_ = (text.get_text() for text in figure.texts)
    for shown in (title, subtitle):
        assert shown.startswith("begin")
        assert "…" in shown
        assert shown.endswith("end")


def test_two_dollar_signs_are_no_formula(caption):
    figure = latent_map(torch.eye(4), torch.arange(4), caption._replace(footer=r"files under /a$\b$"))
    figure.draw_without_rendering()
    assert r"files under /a$\b$" in {text.get_text() for text in figure.texts}

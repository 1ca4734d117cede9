"""Words for losses that are not the negative ELBO: losses of different objectives do not compare."""

from math import isclose


def is_bound(loss: float, neg_elbo: float) -> bool:
    """Whether a loss is the negative ELBO; nats, which differ by rounding at most."""
    return isclose(loss, neg_elbo, rel_tol=1e-4, abs_tol=1e-2)


def beside(loss: float, neg_elbo: float, words: str) -> str:
    """What to write behind a loss: the negative ELBO, if the loss is something else.

    Args:
        loss: nats per image.
        neg_elbo: likewise.
        words: for example " (negative ELBO {:.2f})".
    """
    return "" if is_bound(loss, neg_elbo) else words.format(neg_elbo)

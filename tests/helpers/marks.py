"""Which cases of a test run by default."""

import pytest


def slow_after(count, cases):
    """Cases for `pytest.mark.parametrize`; all but the first `count` are marked slow."""
    cases = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [
        pytest.param(*case, marks=[pytest.mark.slow] if number >= count else []) for number, case in enumerate(cases)
    ]

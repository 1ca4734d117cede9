"""Without the rights that the superuser has."""

import os
from contextlib import contextmanager


@contextmanager
def as_nobody():
    """Be a user whom permissions bind, if these tests run as root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)

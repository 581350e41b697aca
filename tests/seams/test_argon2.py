"""Seam S21: argon2-cffi's defaults are dearer than a login may be here; `relay/smtp/passwords.py` has its own."""

import argon2
from argon2.profiles import get_default_parameters

from relay.smtp import passwords


def test_s21_the_defaults_of_the_library_are_dearer_than_ours() -> None:
    """Compared by parameters: 64 MiB and three passes a login, where 19 MiB and two are what OWASP asks for.

    Equal or cheaper: `_HASHER` can be the library's own, and every stored hash says what it was made with.
    """
    theirs = argon2.PasswordHasher()
    default = get_default_parameters()

    assert (theirs.memory_cost, theirs.time_cost) == (default.memory_cost, default.time_cost) == (65_536, 3)
    assert theirs.memory_cost > passwords.MEMORY_KIB
    assert theirs.time_cost > passwords.PASSES
    assert theirs.parallelism > passwords.LANES  # threads of one login, beside those of two at a time


def test_s21_a_hasher_checks_a_hash_by_the_parameters_in_it() -> None:
    """Not by its own: a stored hash of other parameters would take another time, so only ours are taken."""
    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(b"secret")

    assert passwords._HASHER.verify(cheap, b"secret")
    assert not cheap.startswith(passwords.PREFIX)

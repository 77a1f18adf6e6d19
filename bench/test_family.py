"""Every member of the family at a few random models."""

from __future__ import annotations

import pytest

import family


@pytest.mark.filterwarnings("ignore::ufm_fast.ConvergenceWarning")
@pytest.mark.parametrize("member", family.MEMBERS)
def test_members_are_certified(member: str) -> None:
    for seed in range(4):
        _, gaps, excess = family.examine(member, seed)
        assert max(gaps) <= family.TOLERANCE
        assert excess <= 1e-13


def test_sparse_targets_take_little_memory() -> None:
    assert "MB beside" in family.sparse(500)
    assert "certified" in family.tokens(30, 50, 30, 3e-3)

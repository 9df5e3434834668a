"""Quotas and the order of rows."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.ordering import mix64, permutation
from data_recipes.packing.mixing import interleave, occurrences
from data_recipes.recipes.quotas import row_quotas


@settings(deadline=None, max_examples=150)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=40).filter(any))
def test_every_beginning_holds_the_mixture_to_within_a_row(counts):
    order = interleave(counts)
    total = sum(counts)
    assert np.bincount(order, minlength=len(counts)).tolist() == counts
    given_so_far = np.cumsum(order[:, None] == np.arange(len(counts)), axis=0)
    exact = np.arange(1, total + 1)[:, None] * np.array(counts) / total
    assert np.abs(given_so_far - exact).max() < 1


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_occurrences_count_earlier_equals(order):
    counted = occurrences(np.array(order, dtype=np.int16), 6)
    assert counted.tolist() == [order[:place].count(value) for place, value in enumerate(order)]


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(1, 10**7), st.sampled_from(["web-en", "code", None])), min_size=1, max_size=60),
    st.sampled_from([64, 128, 4096, 28_672]),
)
def test_subsets_domains_and_total_are_within_a_row(subsets, context_length):
    tokens = [count for count, _ in subsets]
    domains = [domain for _, domain in subsets]
    rows = row_quotas(tokens, domains, context_length)
    assert sum(rows) == round(sum(tokens) / context_length)
    assert all(abs(row * context_length - count) < context_length for row, count in zip(rows, tokens, strict=True))
    for domain in set(domains):
        asked = sum(count for count, one in subsets if one == domain)
        got = sum(row for row, one in zip(rows, domains, strict=True) if one == domain)
        assert abs(got * context_length - asked) < context_length


def test_permutation_never_changes():
    assert permutation(8, 12345).tolist() == [2, 6, 0, 3, 1, 5, 7, 4]
    assert sorted(permutation(1000, 7).tolist()) == list(range(1000))
    assert mix64(np.arange(2, dtype=np.uint64), 0).tolist() == [16294208416658607535, 7960286522194355700]


def chairman(counts: list[int]) -> list[int]:
    """Tijdeman's rule as he states it, subset by subset for every row, in exact numbers."""
    total, subsets = sum(counts), [place for place, count in enumerate(counts) if count]
    if len(subsets) == 1:
        return subsets * total
    scale, given_so_far, order = 2 * len(subsets) - 2, dict.fromkeys(subsets, 0), []
    for row in range(1, total + 1):
        deficits = {one: counts[one] * row - total * given_so_far[one] for one in subsets}
        due = [one for one in subsets if deficits[one] * scale >= total]
        best = min(due, key=lambda one: (Fraction((scale - 1) * total - scale * deficits[one], counts[one]), one))
        given_so_far[best] += 1
        order.append(best)
    return order


@settings(deadline=None, max_examples=100)
@given(st.lists(st.one_of(st.integers(0, 3), st.integers(0, 60)), min_size=1, max_size=12).filter(any))
def test_the_order_is_tijdemans(counts):
    assert interleave(counts).tolist() == chairman(counts)

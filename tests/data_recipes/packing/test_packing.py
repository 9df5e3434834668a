"""Best-fit packing: a partition, no row overfull, as few rows as the document-by-document algorithm."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.packing.best_fit import best_fit
from data_recipes.packing.stream import Spans


def reference_rows(lengths: list[int], context_length: int) -> int:
    """Best-fit decreasing, one document at a time, over a list of free spaces."""
    free: list[int] = []
    for length in sorted(lengths, reverse=True):
        room = [space for space in free if space >= length]
        if room:
            free.remove(min(room))
            free.append(min(room) - length)
        else:
            free.append(context_length - length)
    return len(free)


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 200).flatmap(lambda size: st.tuples(st.just(size), st.lists(st.integers(1, size), max_size=300))))
def test_same_number_of_rows_as_one_by_one(drawn):
    context_length, lengths = drawn
    row_of, rows = best_fit(np.array(lengths, dtype=np.int64), context_length)
    assert rows == reference_rows(lengths, context_length)
    filled = np.bincount(row_of, weights=lengths, minlength=rows) if lengths else np.zeros(0)
    assert (filled <= context_length).all()
    assert (filled > 0).all()


@pytest.mark.parametrize("context_length", [4096, 28_672, 3_583])
def test_fill_is_nearly_full_on_real_looking_lengths(context_length):
    lengths = np.minimum(np.random.default_rng(0).lognormal(6.5, 1.1, 100_000).astype(np.int64) + 1, context_length)
    _, rows = best_fit(lengths, context_length)
    assert lengths.sum() / (rows * context_length) >= 0.999
    lower_bound = -(-int(lengths.sum()) // context_length)
    assert rows - lower_bound <= 1 + rows // 1000


def test_lengths_outside_the_row_are_refused():
    with pytest.raises(ValueError, match="from 3 to 9; expected 1 to 8"):
        best_fit(np.array([3, 9]), 8)


def test_spans_are_cut_at_the_token():
    spans = Spans(np.array([0, 100, 300]), np.array([50, 150, 400]))
    assert spans.first(70).stop.tolist() == [50, 120]
    assert spans.first(50).stop.tolist() == [50]
    assert spans.first(1000).stop.tolist() == [50, 150, 400]

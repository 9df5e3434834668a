"""Scales, ticks, labels and numbers of the report's charts."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from yulanmini.report import units
from yulanmini.report.line_chart import Band, Plot, Series, draw_lines
from yulanmini.report.scores import interval
from yulanmini.report.svg import Scale, element, linear_ticks, log_ticks, path, smooth, spread


def test_elements_escape_text_and_attributes_but_not_markup() -> None:
    inner = element("title", 'a < b & "c"')
    assert element("g", inner, data_x="<>", class_="k", style=None) == (
        '<g data-x="&lt;&gt;" class="k"><title>a &lt; b &amp; &#34;c&#34;</title></g>'
    )
    assert isinstance(inner, Markup)


def test_a_missing_value_lifts_the_pen() -> None:
    assert path([(0, 0), (1, 1), None, (3, 3.25), (4, 4)]) == "M0 0L1 1M3 3.2L4 4"


@given(st.floats(-1e3, 1e3), st.floats(1e-2, 1e6), st.integers(2, 12))
def test_linear_ticks_are_inside_and_evenly_spaced(low: float, span: float, count: int) -> None:
    ticks = linear_ticks(low, low + span, count)
    slack = span * 1e-6 + abs(low) * 1e-9
    assert 1 <= len(ticks) <= 2.6 * count + 1
    assert all(low - slack <= tick <= low + span + slack for tick in ticks)
    steps = [after - before for before, after in itertools.pairwise(ticks)]
    assert all(step == pytest.approx(steps[0], rel=1e-6) for step in steps)


def test_log_ticks_are_powers_of_ten_or_finer_where_there_are_few() -> None:
    assert log_ticks(1e-4, 1e2, 4) == pytest.approx([1e-4, 1e-2, 1e0, 1e2])
    assert log_ticks(0.8, 6, 5) == pytest.approx([1, 2, 5])


def test_a_log_scale_puts_equal_ratios_at_equal_distances() -> None:
    scale = Scale(1, 1000, 300, 0, log=True)
    assert [scale(value) for value in (1, 10, 100, 1000)] == pytest.approx([300, 200, 100, 0])
    assert scale(0) == pytest.approx(300)


@given(st.lists(st.floats(0, 300), min_size=1, max_size=12))
def test_labels_are_moved_apart_and_keep_their_order(wanted: list[float]) -> None:
    placed = spread(wanted, gap=14, low=0, high=300)
    by_wish = [position for _, position in sorted(zip(wanted, placed, strict=True))]
    gaps = [after - before for before, after in itertools.pairwise(by_wish)]
    assert all(gap >= 14 - 1e-9 for gap in gaps)
    assert all(-1e-9 <= position <= 300 + 1e-9 for position in placed)


def test_labels_with_room_stay_where_they_are() -> None:
    assert spread([200, 50, 100], gap=14, low=0, high=300) == [200, 50, 100]
    assert spread([100, 104], gap=14, low=0, high=300) == [95, 109]


def test_smoothing_skips_what_is_not_there() -> None:
    def average(values: list[float]) -> float:
        return sum(values) / len(values)

    assert smooth([1.0, None, 3.0, 5.0], 3, average) == [1.0, 2.0, 4.0, 4.0]
    assert smooth([None, None], 1, average) == [None, None]


@pytest.mark.parametrize("narrow", [False, True])
def test_a_chart_without_values_can_be_drawn(narrow: bool) -> None:
    empty = Plot("e", "Empty", "Nothing.", [Series("a", [], [], label="a")], "step", "value", log=True)
    assert "<svg" in draw_lines(empty, width=360, narrow=narrow)
    flat = Plot("f", "Flat", "One value.", [Series("a", [1], [2.0], label="a")], "step", "value")
    assert "circle" in draw_lines(flat, width=360, narrow=narrow)


def test_band_names_give_way_on_a_narrow_chart_but_not_annealing() -> None:
    bands = [Band(n, n + 1, str(n + 1), "annealing" if n >= 25 else "even") for n in range(27)]
    plot = Plot("b", "Bands", "Bands.", [Series("a", range(28), [1.0 + n for n in range(28)])], "x", "y", bands=bands)
    wide, narrow = (draw_lines(plot, width=width, narrow=width < 500) for width in (1040, 360))
    assert wide.count("band-label") == 27
    assert 5 <= narrow.count("band-label") < 27
    assert 'band-label annealing"' in narrow


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (units.significant(2.4e-6, 2), "2.4 × 10⁻⁶"),
        (units.significant(1e-5), "10⁻⁵"),
        (units.significant(0.99996), "1.00"),
        (units.significant(1234.5), "1,234"),
        (units.significant(0), "0"),
        (units.significant(None), "–"),
        (units.compact(1_613_000), "1.61 M"),
        (units.compact(999_999), "1.00 M"),
        (units.percent(0.004), "<1%"),
        (units.percent(0.0), "0%"),
        (units.percent(0.1234, 1), "12.3%"),
        (units.duration(59.7), "1 min 00 s"),
        (units.duration(3.14), "3.1 s"),
        (units.duration(7500), "2 h 05 min"),
        (units.size(1.3e9), "1.21 GiB"),
        (units.size(12), "12 bytes"),
        (units.tick(0.004), "0.004"),
        (units.tick(15000), "15,000"),
    ],
)
def test_numbers_are_shown_short_with_their_unit(shown: str, expected: str) -> None:
    assert shown.replace(units.THIN, " ") == expected


def test_the_interval_of_a_share_is_wilsons() -> None:
    low, high = interval(45 / 50, 50)
    assert (round(low, 3), round(high, 3)) == (0.786, 0.957)
    assert interval(0.0, 20)[0] == 0.0
    assert interval(1.0, 20)[1] == pytest.approx(1.0)

"""Numbers as a reader wants them: short, with their unit, the same everywhere in the report."""

import math

THIN = "\u202f"  # narrow no-break space between a number and its unit
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
ABSENT = "–"


def integer(value: float | None) -> str:
    """12,345."""
    return ABSENT if value is None else f"{value:,.0f}"


def compact(value: float | None) -> str:
    """3.5 M: three significant digits and K, M, B or T."""
    if value is None:
        return ABSENT
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= limit * 0.9995:
            return f"{significant(value / limit, 3)}{THIN}{suffix}"
    return significant(value, 3)


def significant(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits; very small and very large ones as 2.4 × 10⁻⁶."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if -4 <= int(exponent) < 6:
        return f"{value:,.{max(digits - 1 - int(exponent), 0)}f}"
    mantissa = mantissa.rstrip("0").rstrip(".")
    power = f"10{str(int(exponent)).translate(SUPERSCRIPTS)}"
    return power if mantissa == "1" else f"{mantissa}{THIN}×{THIN}{power}"


def tick(value: float) -> str:
    """An axis label: no digits that a round number does not need."""
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)) + 1e-9)
    if -4 <= exponent < 5:
        return f"{round(value, 6):,g}"
    return significant(value, 3)


def percent(share: float | None, digits: int = 0) -> str:
    """0.123 as 12 %; a share that is not zero never reads 0 %."""
    if share is None:
        return ABSENT
    if share > 0 and round(share * 100, digits) == 0:
        return f"<{10.0**-digits:.{digits}f}%"
    return f"{share * 100:.{digits}f}%"


def change(share: float | None) -> str:
    """-0.123 as −12.3 %, with its sign."""
    return ABSENT if share is None else f"{100 * share:+.1f}%".replace("-", "−")


def duration(seconds: float | None) -> str:
    """1.4 s, 6 min 12 s, 2 h 05 min."""
    if seconds is None:
        return ABSENT
    if seconds < 9.95:
        return f"{seconds:.1f}{THIN}s"
    if round(seconds) < 60:
        return f"{seconds:.0f}{THIN}s"
    if round(seconds) < 3600:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes}{THIN}min {rest:02d}{THIN}s"
    hours, rest = divmod(round(seconds / 60), 60)
    return f"{hours}{THIN}h {rest:02d}{THIN}min"


def size(count: float | None) -> str:
    """Bytes as KiB, MiB, GiB."""
    if count is None:
        return ABSENT
    for limit, suffix in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= limit:
            return f"{significant(count / limit, 3)}{THIN}{suffix}"
    return f"{count:.0f}{THIN}bytes"

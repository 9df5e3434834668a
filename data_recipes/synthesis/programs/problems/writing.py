"""How numbers, polynomials and matrices are written in problems, steps and answers; the same in both languages."""

from collections.abc import Iterable, Sequence
from fractions import Fraction

Matrix = Sequence[Sequence[int | Fraction]]


def bracketed(number: int | Fraction) -> str:
    """A number after a sign: negative ones and fractions stand in brackets."""
    if number.__class__ is int:  # most are, and a look at a class is slow
        return f"({number})" if number < 0 else str(number)
    return f"({number})" if number < 0 or number.denominator > 1 else str(number)


def decimal(digits: int, places: int) -> str:
    """`digits` with the point before the last `places` of them, without zeros at the end: (1250, 3) is 1.25."""
    while places and digits % 10 == 0:
        digits, places = digits // 10, places - 1
    if not places:
        return str(digits)
    whole, rest = divmod(abs(digits), 10**places)
    return f"{'-' if digits < 0 else ''}{whole}.{rest:0{places}}"


def exact_decimal(value: Fraction | int, most: int = 12) -> str:
    """A fraction whose denominator divides a power of ten, as a decimal."""
    value = Fraction(value)
    for places in range(most + 1):
        if 10**places % value.denominator == 0:
            return decimal(value.numerator * (10**places // value.denominator), places)
    raise ValueError(f"{value} is no decimal of {most} places")


def polynomial(coefficients: Sequence[int], name: str = "x") -> str:
    """The polynomial with these coefficients, the highest power first: (1, 0, -3) is x^2 - 3."""
    text = ""
    power = len(coefficients)
    for coefficient in coefficients:
        power -= 1
        if not coefficient:
            continue
        size = abs(coefficient)
        unknown = "" if not power else name if power == 1 else f"{name}^{power}"
        term = f"{size}{unknown}" if size != 1 or not power else unknown
        if text:
            text += f" + {term}" if coefficient > 0 else f" - {term}"
        else:
            text = term if coefficient > 0 else f"-{term}"
    return text or "0"


def linear(coefficients: Sequence[int], names: str = "xyz") -> str:
    """A sum of unknowns: (2, -1) is 2x - y."""
    text = ""
    for coefficient, name in zip(coefficients, names, strict=False):
        if not coefficient:
            continue
        size = abs(coefficient)
        term = name if size == 1 else f"{size}{name}"
        if text:
            text += f" + {term}" if coefficient > 0 else f" - {term}"
        else:
            text = term if coefficient > 0 else f"-{term}"
    return text or "0"


def matrix(rows: Matrix) -> str:
    return "[" + ", ".join([vector(row, "[]") for row in rows]) + "]"


def vector(entries: Iterable[int | Fraction], brackets: str = "()") -> str:
    return f"{brackets[0]}{', '.join(map(str, entries))}{brackets[1]}"


def signed_sum(numbers: Sequence[int]) -> str:
    """3 - 4 + 5 of (3, -4, 5)."""
    first, *rest = numbers
    return str(first) + "".join([f" + {number}" if number >= 0 else f" - {-number}" for number in rest])

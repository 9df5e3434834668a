"""Levels 4 and 5: vectors and matrices."""

from fractions import Fraction
from itertools import combinations, product
from math import gcd
from random import Random
from typing import Any

from data_recipes.synthesis.programs.problem import Operands, ProblemKind, Space
from data_recipes.synthesis.programs.problems.writing import bracketed, matrix, vector

ENTRIES = range(-9, 10)
# How a row is made of two others, and where it stands.
MIXTURES = list(product(range(-3, 4), range(-3, 4), range(3)))


def products(one: Operands, other: Operands) -> str:
    return " + ".join([f"{bracketed(a)} × {bracketed(b)}" for a, b in zip(one, other, strict=True)])


class DotProduct(ProblemKind):
    """Operands: two vectors of three or four entries."""

    name, level = "dot-product", 4
    spaces = tuple(Space(*[range(-12, 13)] * (2 * length)) for length in (3, 4))

    def operands(self, *values: int) -> Operands | None:
        half = len(values) // 2
        return (values[:half], values[half:]) if values[:half] >= values[half:] else None

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return operands if rng.random() < 0.5 else operands[::-1]

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *sorted(operands))

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"u": vector(operands[0]), "v": vector(operands[1])}

    def solve(self, operands: Operands) -> int:
        """From |u + v|^2 - |u - v|^2, which is four times it."""
        pairs = list(zip(*operands, strict=True))
        return (sum([(a + b) ** 2 for a, b in pairs]) - sum([(a - b) ** 2 for a, b in pairs])) // 4

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        parts = [a * b for a, b in zip(*operands, strict=True)]
        total = sum(parts)
        return [f"{products(*operands)} = {' + '.join(map(bracketed, parts))} = {total}"], total


class Determinant2(ProblemKind):
    """The determinant of a matrix with two rows; operands are the rows."""

    name, level = "determinant-2", 4
    spaces = (Space(*[range(-20, 21)] * 4),)

    def operands(self, a: int, b: int, c: int, d: int) -> Operands:
        return (a, b), (c, d)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"matrix": matrix(operands)}

    def solve(self, operands: Operands) -> int:
        """By making the second row (0, d') with whole numbers: a times the determinant is a(ad - bc)."""
        (a, b), (c, d) = operands
        return int(a * Fraction(a * d - c * b, a)) if a else -b * c

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        (a, b), (c, d) = operands
        left, right = a * d, b * c
        crossed = f"{bracketed(a)} × {bracketed(d)} - {bracketed(b)} × {bracketed(c)}"
        return [f"{crossed} = {left} - {bracketed(right)} = {left - right}"], left - right


class Determinant3(ProblemKind):
    name, level = "determinant-3", 5
    spaces = (Space(*[ENTRIES] * 9),)

    def operands(self, *entries: int) -> Operands:
        return entries[:3], entries[3:6], entries[6:]

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"matrix": matrix(operands)}

    def solve(self, operands: Operands) -> int:
        """The rule of Sarrus."""
        (a, b, c), (d, e, f), (g, h, i) = operands
        return a * e * i + b * f * g + c * d * h - c * e * g - b * d * i - a * f * h

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        """By the first row."""
        first, (d, e, f), (g, h, i) = operands
        steps, minors = [], []
        for p, q, r, s in ((e, f, h, i), (d, f, g, i), (d, e, g, h)):
            minor = p * s - q * r
            minors.append(minor)
            steps.append(f"{bracketed(p)} × {bracketed(s)} - {bracketed(q)} × {bracketed(r)} = {minor}")
        a, b, c = first
        total = a * minors[0] - b * minors[1] + c * minors[2]
        steps.append(
            f"{bracketed(a)} × {bracketed(minors[0])} - {bracketed(b)} × {bracketed(minors[1])} + "
            f"{bracketed(c)} × {bracketed(minors[2])} = {total}"
        )
        return steps, total


class MatrixVector(ProblemKind):
    """Operands: two rows of three entries, and the vector."""

    name, level = "matrix-vector", 4
    spaces = (Space(*[ENTRIES] * 9),)

    def operands(self, *entries: int) -> Operands:
        return entries[:3], entries[3:6], entries[6:]

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"matrix": matrix(operands[:2]), "vector": vector(operands[2])}

    def solve(self, operands: Operands) -> tuple[int, int]:
        """As a sum of the columns."""
        (a, b, c), (d, e, f), times = operands
        top = bottom = 0
        for one, other, factor in ((a, d, times[0]), (b, e, times[1]), (c, f, times[2])):
            top, bottom = top + factor * one, bottom + factor * other
        return top, bottom

    def write(self, solution: Any, language: str) -> str:
        return vector(solution)

    def work(self, operands: Operands, language: str) -> tuple[list[str], tuple[int, ...]]:
        *rows, times = operands
        values = tuple([sum([a * b for a, b in zip(row, times, strict=True)]) for row in rows])
        return [f"{products(row, times)} = {value}" for row, value in zip(rows, values, strict=True)], values


class MatrixProduct(ProblemKind):
    """Operands: two matrices of two rows and two columns, by rows."""

    name, level = "matrix-product", 5
    spaces = (Space(*[ENTRIES] * 8),)

    def operands(self, *entries: int) -> Operands:
        return entries[0:2], entries[2:4], entries[4:6], entries[6:8]

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"a": matrix(operands[:2]), "b": matrix(operands[2:])}

    def solve(self, operands: Operands) -> Operands:
        """With seven products (Strassen 1969)."""
        (a, b), (c, d), (e, f), (g, h) = operands
        one, two, three, four = (a + d) * (e + h), (c + d) * e, a * (f - h), d * (g - e)
        five, six, seven = (a + b) * h, (c - a) * (e + f), (b - d) * (g + h)
        return (one + four - five + seven, three + five), (two + four, one - two + three + six)

    def write(self, solution: Any, language: str) -> str:
        return matrix(solution)

    def work(self, operands: Operands, language: str) -> tuple[list[str], Operands]:
        first, second, (e, f), (g, h) = operands
        steps, rows = [], []
        for row in (first, second):
            entries = []
            for column in ((e, g), (f, h)):
                entries.append(row[0] * column[0] + row[1] * column[1])
                steps.append(f"{products(row, column)} = {entries[-1]}")
            rows.append(tuple(entries))
        return steps, tuple(rows)


class Inverse(ProblemKind):
    """The inverse of a matrix with two rows."""

    name, level = "matrix-inverse", 5
    spaces = (Space(*[range(-12, 13)] * 4),)

    def operands(self, a: int, b: int, c: int, d: int) -> Operands | None:
        return ((a, b), (c, d)) if a * d != b * c else None

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"matrix": matrix(operands)}

    def solve(self, operands: Operands) -> Operands:
        """The columns solve equations with the columns of the unit matrix."""
        (a, b), (c, d) = operands
        whole = a * d - b * c
        return (Fraction(d, whole), Fraction(-b, whole)), (Fraction(-c, whole), Fraction(a, whole))

    def write(self, solution: Any, language: str) -> str:
        return matrix(solution)

    def work(self, operands: Operands, language: str) -> tuple[list[str], Any]:
        """Rows and columns of the matrix and this one multiply to the unit matrix, which is checked."""
        (a, b), (c, d) = operands
        whole = a * d - b * c
        word = "Determinant: " if language == "en" else "行列式："
        steps = [f"{word}{bracketed(a)} × {bracketed(d)} - {bracketed(b)} × {bracketed(c)} = {whole}"]
        steps.append(f"1/{bracketed(whole)} × {matrix(((d, -b), (-c, a)))}")
        if any((a * d - b * c != whole, a * -b + b * a, c * d - d * c, -c * b + d * a != whole)):
            return steps, None
        sign = -1 if whole < 0 else 1
        rows = ((sign * d, -sign * b), (-sign * c, sign * a))
        return steps, tuple([tuple([Fraction(entry, abs(whole)) for entry in row]) for row in rows])


class Rank(ProblemKind):
    """The rank of a matrix with three rows and columns: of any entries; one row made of the others; all of one."""

    name, level = "matrix-rank", 5
    spaces = (
        Space(*[range(-5, 6)] * 9, share=0.4),
        Space(*[range(-5, 6)] * 6, MIXTURES, share=0.45),
        Space(*[ENTRIES] * 3, *[range(-4, 5)] * 3, share=0.15),
    )

    def operands(self, *values: Any) -> Operands | None:
        one, other = values[:3], values[3:6]
        if len(values) == 6:
            # One vector for all its multiples.
            first = next((entry for entry in one if entry), 0)
            is_one = first > 0 and gcd(*one) == 1 and any(other)
            return tuple([tuple([t * x for x in one]) for t in other]) if is_one else None
        if len(values) == 9:
            rows = (one, other, values[6:])
            return rows if self.solve(rows) == 3 else None
        p, q, place = values[6]
        if all(one[i] * other[j] == one[j] * other[i] for i, j in ((0, 1), (0, 2), (1, 2))):
            return None
        mixed = tuple([p * x + q * y for x, y in zip(one, other, strict=True)])
        # The first row that can be made of the others is the one that is taken for made.
        if max(map(abs, mixed)) <= 5 and ((place > 0 and abs(p) == 1) or (place == 2 and abs(q) == 1)):
            return None
        return (*(one, other)[:place], mixed, *(one, other)[place:])

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"matrix": matrix(operands)}

    def solve(self, operands: Operands) -> int:
        """By minors."""
        (a, b, c), (d, e, f), (g, h, i) = operands
        if a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g):
            return 3
        for one, other in combinations(operands, 2):
            if any(one[p] * other[q] != one[q] * other[p] for p, q in ((0, 1), (0, 2), (1, 2))):
                return 2
        return int(any(map(any, operands)))

    def chance(self, operands: Operands) -> float:
        return 1 / 3

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        """By elimination with whole numbers."""
        rows, steps, rank = list(operands), [], 0
        for column in range(3):
            pivot = next((row for row in range(rank, 3) if rows[row][column]), None)
            if pivot is None:
                continue
            rows[rank], rows[pivot] = rows[pivot], rows[rank]
            if pivot != rank:
                steps.append(matrix(rows))
            lead = rows[rank]
            for row in range(rank + 1, 3):
                factor = rows[row][column]
                if factor:
                    rows[row] = tuple([lead[column] * x - factor * y for x, y in zip(rows[row], lead, strict=True)])
            rank += 1
            steps.append(matrix(rows))
        word = "Rows that are not zero: " if language == "en" else "非零行数："
        return [*dict.fromkeys(steps), f"{word}{rank}"], rank


KINDS: list[ProblemKind] = [
    DotProduct(),
    Determinant2(),
    MatrixVector(),
    Determinant3(),
    MatrixProduct(),
    Inverse(),
    Rank(),
]

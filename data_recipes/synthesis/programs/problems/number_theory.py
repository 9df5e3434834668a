"""Levels 4 and 5: divisors, primes, remainders and bases."""

from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from math import gcd, isqrt, lcm, prod
from random import Random
from typing import Any

from data_recipes.synthesis.programs.problem import Operands, ProblemKind, Space
from data_recipes.synthesis.programs.problems.arithmetic import TwoNumbers, either_way
from data_recipes.synthesis.programs.problems.basic import join

DIGITS = "0123456789ABCDEF"
YES_NO = {"en": ("no", "yes"), "zh": ("否", "是")}


def factors_of(number: int) -> dict[int, int]:
    """Prime factors and how often each occurs, by trial division."""
    found: dict[int, int] = {}
    prime = 2
    while prime * prime <= number:
        while number % prime == 0:
            found[prime] = found.get(prime, 0) + 1
            number //= prime
        prime += 1 if prime == 2 else 2
    if number > 1:
        found[number] = found.get(number, 0) + 1
    return found


def powers(factors: dict[int, int]) -> str:
    return " × ".join([f"{prime}^{count}" if count > 1 else str(prime) for prime, count in factors.items()])


@cache
def smallest_factors(limit: int = 10000) -> list[int]:
    """The smallest prime factor of each number below a limit, by a sieve."""
    least = list(range(limit))
    for prime in range(2, isqrt(limit) + 1):
        if least[prime] == prime:
            for multiple in range(prime * prime, limit, prime):
                least[multiple] = min(least[multiple], prime)
    return least


class Lcm(TwoNumbers):
    name, level = "lcm", 4
    spaces = (Space(range(6, 400), range(6, 400)),)

    def operands(self, a: int, b: int) -> Operands | None:
        return (a, b) if a > b and gcd(a, b) > 1 and a % b else None

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return either_way(operands, rng)

    def identity(self, operands: Operands) -> Operands:
        return (self.name, min(operands), max(operands))

    def solve(self, operands: Operands) -> int:
        return lcm(*operands)

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        a, b = operands
        one, other = factors_of(a), factors_of(b)
        both = {prime: max(one.get(prime, 0), other.get(prime, 0)) for prime in sorted({*one, *other})}
        result = 1
        for prime, count in both.items():
            result *= prime**count
        return [f"{a} = {powers(one)}", f"{b} = {powers(other)}", f"{powers(both)} = {result}"], result


class LargeGcd(TwoNumbers):
    name, level = "large-gcd", 4
    spaces = (Space(range(2, 200), range(20, 300), range(20, 300)),)

    def operands(self, common: int, a: int, b: int) -> Operands | None:
        return (common * a, common * b) if a > b and gcd(a, b) == 1 else None

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return either_way(operands, rng)

    def identity(self, operands: Operands) -> Operands:
        return ("gcd", min(operands), max(operands))

    def solve(self, operands: Operands) -> int:
        return gcd(*operands)

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        a, b = max(operands), min(operands)
        steps = []
        while b:
            steps.append(f"{a} = {a // b} × {b} + {a % b}")
            a, b = b, a % b
        return steps, a


class PrimeFactors(ProblemKind):
    name, level = "prime-factors", 4
    spaces = (Space(range(60, 10000)),)

    def operands(self, number: int) -> Operands | None:
        """Numbers without large prime factors, which would be no work."""
        rest, least = number, smallest_factors()
        while rest > 1:
            if least[rest] > 100:
                return None
            rest //= least[rest]
        return (number,)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"n": operands[0]}

    def solve(self, operands: Operands) -> dict[int, int]:
        """By a table of smallest factors."""
        number, least = operands[0], smallest_factors()
        found: dict[int, int] = {}
        while number > 1:
            found[least[number]] = found.get(least[number], 0) + 1
            number //= least[number]
        return found

    def write(self, solution: Any, language: str) -> str:
        return powers(solution)

    def work(self, operands: Operands, language: str) -> tuple[list[str], dict[int, int]]:
        number, steps = operands[0], []
        factors = factors_of(number)
        for prime, count in factors.items():
            for _ in range(count):
                steps.append(f"{number} ÷ {prime} = {number // prime}")
                number //= prime
        return steps, factors


class IsPrime(ProblemKind):
    """Whether a number without small factors is prime."""

    name, level = "is-prime", 4
    spaces = (Space(range(101, 10000, 2)),)

    def operands(self, number: int) -> Operands | None:
        return (number,) if number % 3 and number % 5 else None

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"n": operands[0]}

    def solve(self, operands: Operands) -> bool:
        return smallest_factors()[operands[0]] == operands[0]

    def write(self, solution: Any, language: str) -> str:
        return YES_NO[language][solution]

    def chance(self, operands: Operands) -> float:
        return 1 / 2

    def work(self, operands: Operands, language: str) -> tuple[list[str], bool]:
        number = operands[0]
        last = isqrt(number)
        divisor = next((divisor for divisor in range(2, last + 1) if number % divisor == 0), None)
        if divisor is not None:
            return [f"{number} = {divisor} × {number // divisor}"], False
        squares = (f"{last}^2 = {last * last}", f"{last + 1}^2 = {(last + 1) ** 2}")
        if language == "en":
            steps = [f"{squares[0]} and {squares[1]}, so primes up to {last} are enough."]
            return [*steps, f"None of them divides {number}."], True
        return [f"{squares[0]}，{squares[1]}，所以只需试到{last}的质数。", f"它们都不能整除{number}。"], True


class DivisorCount(ProblemKind):
    """How many divisors a number has, given by its factors so that it may be large; operands: exponents of 2 to 13."""

    name, level = "divisor-count", 5
    spaces = (Space(range(9), range(7), range(5), range(4), range(4), range(4), range(3), range(3)),)
    primes = (2, 3, 5, 7, 11, 13, 17, 19)

    def operands(self, *exponents: int) -> Operands | None:
        return exponents if sum(map(bool, exponents)) > 1 else None

    def _number(self, operands: Operands) -> int:
        number = 1
        for prime, count in zip(self.primes, operands, strict=True):
            number *= prime**count
        return number

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"n": self._number(operands)}

    def solve(self, operands: Operands) -> int:
        """Grown prime by prime: each divisor so far, times each power."""
        count = 1
        for exponent in operands:
            count += count * exponent
        return count

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        number = self._number(operands)
        factors = factors_of(number)
        result = 1
        for count in factors.values():
            result *= count + 1
        sums = " × ".join([f"({count} + 1)" for count in factors.values()])
        return [f"{number} = {powers(factors)}", f"{sums} = {result}"], result


class ModularPower(ProblemKind):
    """a^e mod m; operands are these."""

    name, level = "modular-power", 5
    spaces = (Space(range(2, 60), range(11, 500), range(7, 120)),)

    def operands(self, a: int, e: int, m: int) -> Operands | None:
        return (a, e, m) if a < m else None

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return dict(zip("aem", operands, strict=True))

    def solve(self, operands: Operands) -> int:
        return pow(*operands)

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        """From the first binary digit of the exponent: squared, and times a where the digit is 1."""
        a, e, m = operands
        value, power, steps = a, 1, []
        for digit in bin(e)[3:]:
            square = value * value
            value, power = square % m, 2 * power
            steps.append(f"{a}^{power} ≡ {square} ≡ {value} (mod {m})")
            if digit == "1":
                times = value * a
                value, power = times % m, power + 1
                steps.append(f"{a}^{power} ≡ {times} ≡ {value} (mod {m})")
        return steps, value


class ModularInverse(ProblemKind):
    """x with ax = 1 mod m; operands are a and m."""

    name, level = "modular-inverse", 5
    spaces = (Space(range(2, 600), range(11, 600)),)

    def operands(self, a: int, m: int) -> Operands | None:
        return (a, m) if a < m and gcd(a, m) == 1 else None

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"a": operands[0], "m": operands[1]}

    def solve(self, operands: Operands) -> int:
        return pow(operands[0], -1, operands[1])

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        """Euclid's algorithm, with the multiples of a that leave each remainder."""
        a, m = operands
        steps, before, rest, old, new = [], m, a, 0, 1
        while rest > 1:
            times = before // rest
            steps.append(
                f"{before} = {times} × {rest} + {before % rest}, {before % rest} ≡ {old - times * new} × {a} (mod {m})"
            )
            before, rest, old, new = rest, before % rest, new, old - times * new
        result = new % m
        steps.append(f"{result} × {a} = {result * a} = {result * a // m} × {m} + {result * a % m}")
        return steps, result


# Three moduli without common factors.
COPRIME = [
    (k, m, n) for n in range(5, 24) for m in range(4, n) if gcd(m, n) == 1 for k in range(3, m) if gcd(k, m * n) == 1
]


class Residues(Sequence[Operands]):
    """All remainders of each of some lists of moduli."""

    def __init__(self, moduli: Sequence[tuple[int, ...]]) -> None:
        self._moduli = moduli
        self._ends = list(accumulate(prod(one) for one in moduli))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, number: Any) -> Any:
        place = bisect_right(self._ends, number)
        x = self._ends[place] - 1 - number
        return tuple([(x % modulus, modulus) for modulus in self._moduli[place]])


class ChineseRemainder(ProblemKind):
    """The least x that leaves given remainders; operands: (remainder, modulus) for each."""

    name, level = "chinese-remainder", 5
    spaces = (Space(Residues(COPRIME)),)

    def operands(self, pairs: Operands) -> Operands:
        return pairs

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return tuple(rng.sample(operands, len(operands)))

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *sorted(operands))

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        (a, k), (b, m), (c, n) = operands
        return {"a": a, "b": b, "c": c, "l": k, "m": m, "n": n}

    def solve(self, operands: Operands) -> int:
        """Gauss's sum with inverses."""
        whole = 1
        for _, modulus in operands:
            whole *= modulus
        total = 0
        for rest, modulus in operands:
            others = whole // modulus
            total += rest * others * pow(others, -1, modulus)
        return total % whole

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        """By counting on: in steps of the moduli that are served."""
        (x, step), *others = sorted(operands, key=lambda pair: -pair[1])
        if language == "en":
            steps = [f"Begin with {x}, which leaves {x} when divided by {step}, and go on in steps of {step}."]
        else:
            steps = [f"先取{x}，它除以{step}余{x}，然后每次加{step}。"]
        for rest, modulus in others:
            tried = [x]
            while tried[-1] % modulus != rest:
                tried.append(tried[-1] + step)
            x = tried[-1]
            listed = tried if len(tried) <= 6 else [*tried[:3], "...", x]
            if language == "en":
                steps.append(f"{join(listed, language)}: {x} leaves {rest} when divided by {modulus}.")
            else:
                steps.append(f"{join(listed, language)}：{x}除以{modulus}余{rest}。")
            step *= modulus
        return steps, x


class ToBase(ProblemKind):
    """A number in another base; operands: number, base."""

    name, level = "to-base", 4
    spaces = (Space(range(20, 5000), (2, 3, 4, 5, 6, 7, 8, 9, 12, 16)),)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"n": operands[0], "base": operands[1]}

    def solve(self, operands: Operands) -> str:
        """From the largest power down."""
        number, base = operands
        power = 1
        while power * base <= number:
            power *= base
        digits = ""
        while power:
            digits += DIGITS[number // power]
            number, power = number % power, power // base
        return digits

    def work(self, operands: Operands, language: str) -> tuple[list[str], str]:
        """By remainders, from the last digit."""
        number, base = operands
        steps, digits = [], ""
        while number:
            rest = number % base
            shown = f"{rest} ({DIGITS[rest]})" if rest > 9 else str(rest)
            steps.append(f"{number} = {number // base} × {base} + {shown}")
            digits, number = DIGITS[rest] + digits, number // base
        return steps, digits


class FromBase(ToBase):
    """A number written in another base; operands: number, base."""

    name, level = "from-base", 4

    def identity(self, operands: Operands) -> Operands:
        return ("to-base", *operands)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"digits": super().solve(operands), "base": operands[1]}

    def solve(self, operands: Operands) -> Any:
        return int(super().solve(operands), operands[1])

    def work(self, operands: Operands, language: str) -> tuple[list[str], Any]:
        base = operands[1]
        digits = super().solve(operands)
        terms, total = [], 0
        for place, digit in enumerate(digits):
            power, value = len(digits) - 1 - place, DIGITS.index(digit)
            total += value * base**power
            terms.append(f"{value} × {base}^{power}" if power > 1 else f"{value} × {base}" if power else str(value))
        return [f"{' + '.join(terms)} = {total}"], total


class Remainder(ProblemKind):
    """(ab + c) mod m; operands are these."""

    name, level = "remainder", 4
    spaces = (Space(range(20, 500), range(20, 500), range(1, 500), range(3, 40)),)

    def operands(self, a: int, b: int, c: int, m: int) -> Operands | None:
        return (a, b, c, m) if a >= b else None

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        a, b, c, m = operands
        return operands if rng.random() < 0.5 else (b, a, c, m)

    def identity(self, operands: Operands) -> Operands:
        a, b, c, m = operands
        return (self.name, max(a, b), min(a, b), c, m)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return dict(zip("abcm", operands, strict=True))

    def solve(self, operands: Operands) -> int:
        a, b, c, m = operands
        return (a * b + c) % m

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        """With the remainder of each number."""
        a, b, c, m = operands
        small = a % m, b % m, c % m
        total = small[0] * small[1] + small[2]
        comma = ", " if language == "en" else "，"
        steps = [comma.join([f"{one} = {one // m} × {m} + {one % m}" for one in (a, b, c)])]
        steps.append(f"{small[0]} × {small[1]} + {small[2]} = {total} = {total // m} × {m} + {total % m}")
        return steps, total % m


class Totient(ProblemKind):
    """How many numbers up to n share no factor with it; operands: exponents of the first primes."""

    name, level = "totient", 5
    spaces = (Space(range(1, 30000)),)

    def operands(self, number: int) -> Operands | None:
        return (number + 30,)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"n": operands[0]}

    def solve(self, operands: Operands) -> int:
        """From the numbers whose totients add up: each prime power by itself."""
        result = 1
        for prime, count in factors_of(operands[0]).items():
            result *= prime**count - prime ** (count - 1)
        return result

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        """By taking away the multiples of one prime after the other."""
        number = left = operands[0]
        factors = factors_of(number)
        steps = [f"{number} = {powers(factors)}"]
        for prime in factors:
            less = left // prime
            steps.append(f"{left} - {left} ÷ {prime} = {left} - {less} = {left - less}")
            left -= less
        return steps, left


KINDS: list[ProblemKind] = [
    Lcm(),
    LargeGcd(),
    PrimeFactors(),
    IsPrime(),
    ToBase(),
    FromBase(),
    Remainder(),
    DivisorCount(),
    ModularPower(),
    ModularInverse(),
    ChineseRemainder(),
    Totient(),
]

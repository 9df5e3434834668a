"""Answers that need no algebra: whole numbers, quantities with units, choices, words.

What looks like neither is left to the judge of expressions, so a doubt costs time and not a wrong verdict.
"""

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

# Dimensions: metre, kilogram, second, ampere, kelvin, mole, bit, and what only equals itself.
Dimensions = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Quantity:
    """`value` in the base units of `dimensions`; `number` as it is written. Without a unit, `dimensions` is empty."""

    value: Fraction
    dimensions: Dimensions
    number: Fraction = Fraction(1)


# symbol, names, size in base units, dimensions as powers. Prefixes go with the ones marked so.
_UNITS: list[tuple[str, str, Fraction | int, str, bool]] = [
    ("m", "metre meter metres meters 米", 1, "m", True),
    ("g", "gram grams gramme grammes 克", Fraction(1, 1000), "kg", True),
    ("s", "sec second seconds 秒", 1, "s", True),
    ("A", "ampere amperes amp amps 安 安培", 1, "A", True),
    ("K", "kelvin kelvins 开尔文", 1, "K", True),
    ("mol", "mole moles 摩尔", 1, "mol", True),
    ("min", "minute minutes 分 分钟", 60, "s", False),
    ("h", "hr hrs hour hours 时 小时", 3600, "s", False),
    ("day", "days d 天 日", 86400, "s", False),
    ("week", "weeks 周 星期", 604800, "s", False),
    ("", "km 公里 千米", 1000, "m", False),
    ("", "厘米", Fraction(1, 100), "m", False),
    ("", "毫米", Fraction(1, 1000), "m", False),
    ("", "公斤 千克", 1, "kg", False),
    ("", "毫克", Fraction(1, 10**6), "kg", False),
    ("t", "tonne tonnes 吨", 1000, "kg", False),
    ("L", "l litre liter litres liters 升", Fraction(1, 1000), "m3", True),
    ("", "毫升", Fraction(1, 10**6), "m3", False),
    ("inch", "inches", Fraction(254, 10000), "m", False),
    ("ft", "foot feet", Fraction(3048, 10000), "m", False),
    ("yd", "yard yards", Fraction(9144, 10000), "m", False),
    ("mile", "miles mi", Fraction(1609344, 1000), "m", False),
    ("mph", "", Fraction(44704, 100000), "m s-1", False),
    ("lb", "lbs pound pounds", Fraction(45359237, 10**8), "kg", False),
    ("oz", "ounce ounces", Fraction(45359237, 16 * 10**8), "kg", False),
    ("Hz", "hertz 赫兹", 1, "s-1", True),
    ("N", "newton newtons 牛 牛顿", 1, "kg m s-2", True),
    ("J", "joule joules 焦 焦耳", 1, "kg m2 s-2", True),
    ("eV", "", Fraction(1602176634, 10**28), "kg m2 s-2", True),
    ("cal", "calorie calories 卡", Fraction(4184, 1000), "kg m2 s-2", True),
    ("W", "watt watts 瓦 瓦特", 1, "kg m2 s-3", True),
    ("Pa", "pascal pascals 帕 帕斯卡", 1, "kg m-1 s-2", True),
    ("atm", "", 101325, "kg m-1 s-2", False),
    ("C", "coulomb coulombs 库仑", 1, "A s", True),
    ("V", "volt volts 伏 伏特", 1, "kg m2 s-3 A-1", True),
    ("\u03a9", "ohm ohms 欧 欧姆", 1, "kg m2 s-3 A-2", True),
    ("F", "farad farads", 1, "kg-1 m-2 s4 A2", True),
    ("T", "tesla teslas", 1, "kg s-2 A-1", True),
    ("B", "byte bytes 字节", 8, "bit", True),
    ("bit", "bits 比特", 1, "bit", False),
    ("degC", "摄氏度", 1, "celsius", False),
    ("degF", "华氏度", 1, "fahrenheit", False),
    ("%", "percent", 1, "percent", False),
    ("deg", "\u00b0 degree degrees 度", 1, "degree", False),
    ("rad", "radian radians 弧度", 1, "radian", False),
    ("$", "USD dollar dollars 美元", 1, "dollar", False),
    ("cent", "cents", Fraction(1, 100), "dollar", False),
    ("\u20ac", "EUR euro euros 欧元", 1, "euro", False),
    ("\u00a3", "GBP", 1, "sterling", False),
    ("\u00a5", "CNY RMB yuan 元 人民币", 1, "yuan", False),
]
_PREFIXES = {"k": 3, "M": 6, "G": 9, "T": 12, "c": -2, "m": -3, "\u03bc": -6, "n": -9, "p": -12}
_PREFIX_NAMES = {"kilo": 3, "mega": 6, "giga": 9, "centi": -2, "milli": -3, "micro": -6, "nano": -9}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_NUMBER = re.compile(
    r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:/\d+)?"
    r"(?:(?:\*10\^?\{?(?P<power>[-+]?\d{1,3})\}?)|[eE](?P<exponent>[-+]?\d{1,3})(?![A-Za-z]))?"
)
_FACTOR = re.compile(r"(?P<over>/|per\s)?\s*(?P<unit>[^\W\d_]+|[\u00b0%$€£¥])\^?\{?(?P<power>-?\d)?\}?[\s*·]*")
_MOST_CHARACTERS = 200
_WORDS = re.compile(r"[^\W\d_]+(?:[\s,'’-]+[^\W\d_]+)*")
_SHORT_WORDS = ("yes", "no", "odd")
_CHOICE = re.compile(r"(?:option|choice|选项?)?\s*\(?([A-J])(?:\)|$|[.:：、]|\)[.:])(?![\w(]).*", re.DOTALL)


def equal_where_plain(gold: str, answer: str) -> bool | None:
    """Whether two answers are equal, None where that is not to be seen without algebra."""
    if max(len(gold), len(answer)) > _MOST_CHARACTERS:
        return True if gold == answer else None
    gold, answer = plain_text(gold), plain_text(answer)
    if gold == answer and gold:
        return True
    if re.fullmatch(r"\(?[A-J]\)?", gold) and (choice := _CHOICE.fullmatch(answer)):
        return choice[1] == gold.strip("()")
    if re.fullmatch(r"[-+]?\d{1,100}", gold) and re.fullmatch(r"[-+]?\d{1,100}", answer):
        return int(gold) == int(answer)
    if is_words(gold) and is_words(answer):
        return gold.casefold() == answer.casefold()
    first, second = quantity(gold), quantity(answer)
    if first is None or second is None:
        return None
    if first.dimensions and second.dimensions:
        return first.dimensions == second.dimensions and nearly(first.value, second.value)
    return True if first.number == second.number else None


def plain_text(text: str) -> str:
    """An answer without the TeX and the signs that make no difference to what it says."""
    text = _SUPERSCRIPT.sub(lambda power: "^" + power[0].translate(_SUPERSCRIPTS), text)
    text = unicodedata.normalize("NFKC", text).replace("\u2044", "/").strip(" *\n\t")
    if text.startswith("$") and text.endswith("$") and text.count("$") == 2:
        text = text[1:-1]
    text = re.sub(r"\\(?:text|mathrm|textbf|mathbf|operatorname|mbox)\s*\{([^{}]*)\}", r" \1 ", text)
    text = re.sub(r"\\[,;:! ]|~|\\(?:left|right)(?![a-zA-Z])", " ", text)
    return " ".join(text.rstrip(".。 ").split()).replace(" ^", "^")


def is_words(text: str) -> bool:
    """Whether a text is words and no product of symbols: letters only, and one word at least of four, or ideographs."""
    if text.casefold() in _SHORT_WORDS:
        return True
    if not _WORDS.fullmatch(text):
        return False
    return len(max(re.split(r"[\s,'’-]+", text), key=len)) >= 4 or bool(re.search(r"[\u3400-\u9fff]", text))


def quantity(text: str) -> Quantity | None:
    """A number and its unit, None where a text is anything else."""
    text = re.sub(r"\\d?t?frac\s*\{(\d+)\}\s*\{(\d+)\}", r"\1/\2", text.replace("\u2212", "-").replace("{,}", ","))
    text = re.sub(r"\s*(?:\\times|\\cdot|×|·)\s*(?=10\b)", "*", text)
    text = re.sub(r"\^?\{?\\circ\}?|\\degree", "\u00b0", text).replace("\\%", "%").replace("\\$", "$")
    text = text.replace("\\Omega", "\u03a9").replace("\\mu", "\u03bc").replace("\\cdot", " ").strip()
    if money := re.match(r"([-+]?)([$€£¥])\s*(?=\d)", text):
        text = f"{money[1]}{text[money.end() :]} {money[2]}"
    number = _NUMBER.match(text)
    assert number is not None
    digits = number[0]
    if not any(map(str.isdigit, digits)):
        return None
    plain = re.split(r"[*eE]", digits.replace(",", ""), maxsplit=1)[0]
    top, _, bottom = plain.partition("/")
    if not any(map(str.isdigit, top)) or (bottom and not int(bottom)):  # "/5" and "e5" begin no number
        return None
    power = int(number["power"] or number["exponent"] or 0)
    value = Fraction(top) / int(bottom or 1) * Fraction(10) ** power
    unit = unit_of(text[number.end() :].strip())
    if unit is None:
        return None
    return Quantity(value * unit.value, unit.dimensions, value)


def unit_of(text: str) -> Quantity | None:
    """One of a unit such as `km/h`, `kg m^2 s^-2` or `平方米`; None where a part of it is unknown."""
    text = text.replace("每", "/")
    for word, sign in (("平方", "^2"), ("立方", "^3"), ("square ", "^2"), ("cubic ", "^3")):
        if text.startswith(word):
            text = text[len(word) :] + sign
    text = text.replace("\u00b0 ", "\u00b0").replace("\u00b0C", "degC").replace("\u00b0F", "degF")
    value, powers, place, below = Fraction(1), dict[str, int](), 0, False
    while place < len(text):
        factor = _FACTOR.match(text, place)
        if not factor or factor.end() == place or factor["unit"] == "per":
            return None
        below = below or bool(factor["over"])
        found = _known_units().get(factor["unit"])
        if found is None:
            return None
        power = int(factor["power"] or 1) * (-1 if below else 1)
        value *= found.value**power
        for name, times in found.dimensions:
            powers[name] = powers.get(name, 0) + times * power
        place = factor.end()
    return Quantity(value, tuple(sorted((name, power) for name, power in powers.items() if power)))


def nearly(first: Fraction, second: Fraction) -> bool:
    """Equal but for what a float loses."""
    return abs(first - second) <= Fraction(1, 10**12) * max(abs(first), abs(second))


def _read_units() -> dict[str, Quantity]:
    known = {}
    for symbol, names, size, dimensions, prefixed in _UNITS:
        powers = (re.fullmatch(r"(\D+?)(-?\d)?", part) for part in re.split(r" (?=\w)", dimensions))
        unit = Quantity(Fraction(size), tuple(sorted((part[1], int(part[2] or 1)) for part in powers if part)))
        for name in filter(None, [symbol, *names.split()]):
            known[name] = unit
        for prefixes, stems in ((_PREFIXES, [symbol]), (_PREFIX_NAMES, names.split())) if prefixed else ():
            for prefix, power in prefixes.items():
                for stem in stems:
                    known.setdefault(prefix + stem, Quantity(unit.value * Fraction(10) ** power, unit.dimensions))
    return known


_KNOWN: dict[str, Quantity] = {}


def _known_units() -> dict[str, Quantity]:
    if not _KNOWN:
        _KNOWN.update(_read_units())
    return _KNOWN

"""Levels 4 and 5 of dates and times: over months and years, time zones, times of day added up."""

from datetime import date
from random import Random
from typing import Any

from data_recipes.synthesis.programs.problem import Operands, ProblemKind, Space
from data_recipes.synthesis.programs.problems.basic import WEEKDAYS
from data_recipes.synthesis.programs.problems.calendar import CENTURY, write_date

MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
# Cities and the hours by which their clocks are ahead of Greenwich, the whole year.
CITIES = (
    ({"en": "Beijing", "zh": "北京"}, 8),
    ({"en": "Tokyo", "zh": "东京"}, 9),
    ({"en": "Bangkok", "zh": "曼谷"}, 7),
    ({"en": "Dubai", "zh": "迪拜"}, 4),
    ({"en": "Nairobi", "zh": "内罗毕"}, 3),
    ({"en": "Karachi", "zh": "卡拉奇"}, 5),
    ({"en": "Reykjavik", "zh": "雷克雅未克"}, 0),
    ({"en": "Lima", "zh": "利马"}, -5),
    ({"en": "Buenos Aires", "zh": "布宜诺斯艾利斯"}, -3),
    ({"en": "Honolulu", "zh": "火奴鲁鲁"}, -10),
)


def is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def days_in(month: int, year: int) -> int:
    return 29 if month == 2 and is_leap(year) else MONTH_DAYS[month - 1]


def leap_years(before: int) -> int:
    """How many there are before a year."""
    before -= 1
    return before // 4 - before // 100 + before // 400


def months_written(month: int, language: str) -> str:
    return f"{month}月" if language == "zh" else date(2000, month, 1).strftime("%B")


class DateAfter(ProblemKind):
    """The date so many days later or earlier; operands: ordinal of a day, days."""

    name, level = "date-after", 4
    spaces = (Space(CENTURY, [days for days in range(-400, 401) if abs(days) > 30]),)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        start, days = operands
        way = {"en": ("after", "before"), "zh": ("之后", "之前")}[language][days < 0]
        return {"date": write_date(date.fromordinal(start), language), "days": abs(days), "way": way}

    def solve(self, operands: Operands) -> date:
        return date.fromordinal(sum(operands))

    def write(self, solution: Any, language: str) -> str:
        return write_date(solution, language)

    def work(self, operands: Operands, language: str) -> tuple[list[str], date]:
        """Month by month."""
        start, days = operands
        first = date.fromordinal(start)
        year, month, day = first.year, first.month, first.day + days
        steps = []
        while day < 1 or day > days_in(month, year):
            if day < 1:
                year, month = (year - 1, 12) if month == 1 else (year, month - 1)
                length, before = days_in(month, year), day
                day += length
                sign = "+"
            else:
                length, before = days_in(month, year), day
                day -= length
                sign = "-"
            name = months_written(month, language)
            if language == "en":
                steps.append(f"{name} {year} has {length} days: {before} {sign} {length} = {day}")
            else:
                steps.append(f"{year}年{name}有{length}天：{before} {sign} {length} = {day}")
            if sign == "-":
                year, month = (year + 1, 1) if month == 12 else (year, month + 1)
        sums = f"{first.day} {'+' if days > 0 else '-'} {abs(days)} = {first.day + days}"
        return [sums, *steps], date(year, month, day)


class DaysBetweenYears(ProblemKind):
    """Days between two dates some years apart; operands: two ordinals."""

    name, level = "days-between-years", 4
    spaces = (Space(CENTURY, range(400, 8000)),)

    def operands(self, start: int, days: int) -> Operands:
        return start, start + days

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        start, end = (write_date(date.fromordinal(day), language) for day in operands)
        return {"start": start, "end": end}

    def solve(self, operands: Operands) -> int:
        return operands[1] - operands[0]

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        """Whole years by their leap days, then the days of the year at both ends."""
        start, end = (date.fromordinal(day) for day in operands)
        years, extra = end.year - start.year, leap_years(end.year) - leap_years(start.year)
        whole = 365 * years + extra
        one, other = (
            sum([days_in(month, day.year) for month in range(1, day.month)]) + day.day for day in (start, end)
        )
        total = whole + other - one
        if language == "en":
            steps = [
                f"From 1 January {start.year} to 1 January {end.year}: {years} × 365 + {extra} = {whole}",
                f"{write_date(start, language)} is day {one} of its year, {write_date(end, language)} is day {other}.",
            ]
        else:
            steps = [
                f"{start.year}年1月1日到{end.year}年1月1日：{years} × 365 + {extra} = {whole}",
                f"{write_date(start, language)}是当年第{one}天，{write_date(end, language)}是当年第{other}天。",
            ]
        return [*steps, f"{whole} + {other} - {one} = {total}"], total


class WeekdayFromDate(ProblemKind):
    """The weekday of a date, from that of another; operands: two ordinals."""

    name, level = "weekday-from-date", 5
    spaces = (Space(CENTURY, [days for days in range(-12000, 12001) if abs(days) > 700]),)

    def operands(self, start: int, days: int) -> Operands:
        return start, start + days

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        one, other = (date.fromordinal(day) for day in operands)
        return {
            "known": write_date(one, language),
            "weekday": WEEKDAYS[language][one.weekday()],
            "date": write_date(other, language),
        }

    def solve(self, operands: Operands) -> int:
        return date.fromordinal(operands[1]).weekday()

    def write(self, solution: Any, language: str) -> str:
        return WEEKDAYS[language][solution]

    def chance(self, operands: Operands) -> float:
        return 1 / 7

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        start, end = (date.fromordinal(day) for day in operands)
        first = start.weekday()
        years, extra = end.year - start.year, leap_years(end.year) - leap_years(start.year)
        one, other = (
            sum([days_in(month, day.year) for month in range(1, day.month)]) + day.day for day in (start, end)
        )
        total = 365 * years + extra + other - one
        rest = total % 7
        if language == "en":
            steps = [
                f"Days that pass: 365 × {years} + {extra} + {other} - {one} = {total}"
                if years >= 0
                else f"Days that pass: 365 × ({years}) + ({extra}) + {other} - {one} = {total}",
                f"{total} = {total // 7} × 7 + {rest}" if total >= 0 else f"{total} = ({total // 7}) × 7 + {rest}",
                f"{rest} day{'s' * (rest != 1)} after a {WEEKDAYS['en'][first]}",
            ]
        else:
            steps = [
                f"经过的天数：365 × {years} + {extra} + {other} - {one} = {total}"
                if years >= 0
                else f"经过的天数：365 × ({years}) + ({extra}) + {other} - {one} = {total}",
                f"{total} = {total // 7} × 7 + {rest}" if total >= 0 else f"{total} = ({total // 7}) × 7 + {rest}",
                f"从{WEEKDAYS['zh'][first]}往后数{rest}天",
            ]
        return steps, (first + rest) % 7


class LeapYears(ProblemKind):
    """How many leap years there are from one year to another, both counted; operands are the years."""

    name, level = "leap-years", 4
    spaces = (Space(range(1600, 2400), range(20, 400)),)

    def operands(self, first: int, years: int) -> Operands:
        return first, first + years

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"first": operands[0], "last": operands[1]}

    def solve(self, operands: Operands) -> int:
        return leap_years(operands[1] + 1) - leap_years(operands[0])

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        first, last = operands
        start = first + -first % 4
        fourth = len(range(start, last + 1, 4))
        missing = [year for year in range(first + -first % 100, last + 1, 100) if year % 400]
        if language == "en":
            steps = [f"Years divisible by 4, from {start} on: {fourth}"]
            steps.append(f"Of these no leap years: {', '.join(map(str, missing)) or 'none'}")
        else:
            steps = [f"从{start}年起，能被4整除的年份有{fourth}个"]
            steps.append(f"其中不是闰年的：{'、'.join(map(str, missing)) or '没有'}")
        return [*steps, f"{fourth} - {len(missing)} = {fourth - len(missing)}"], fourth - len(missing)


class TimeZones(ProblemKind):
    """A flight from city to city; operands: the two cities, start in minutes of the day, minutes in the air."""

    name, level = "time-zones", 4
    spaces = (Space(range(len(CITIES)), range(len(CITIES)), range(0, 1440, 5), range(60, 900, 5)),)

    def operands(self, one: int, other: int, start: int, minutes: int) -> Operands | None:
        return (one, other, start, minutes) if one != other else None

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        one, other, start, minutes = operands
        (here, mine), (there, theirs) = CITIES[one], CITIES[other]
        ahead, back = (CITIES[other], CITIES[one]) if theirs > mine else (CITIES[one], CITIES[other])
        return {
            "here": here[language],
            "there": there[language],
            "start": clock(start),
            "hours": minutes // 60,
            "minutes": minutes % 60,
            "ahead": ahead[0][language],
            "back": back[0][language],
            "difference": abs(theirs - mine),
            "s": "s" if abs(theirs - mine) != 1 else "",
        }

    def solve(self, operands: Operands) -> int:
        """By the time in Greenwich."""
        one, other, start, minutes = operands
        return (start - 60 * CITIES[one][1] + minutes + 60 * CITIES[other][1]) % 1440

    def write(self, solution: Any, language: str) -> str:
        return clock(solution)

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        one, other, start, minutes = operands
        hour, minute = divmod(start, 60)
        hour, minute = hour + minutes // 60, minute + minutes % 60
        if minute >= 60:
            hour, minute = hour + 1, minute - 60
        difference = CITIES[other][1] - CITIES[one][1]
        arrival = hour + difference
        flown, then = f"{hour:02}:{minute:02}", f"{hour} {'+' if difference > 0 else '-'} {abs(difference)} = {arrival}"
        hours, rest = divmod(minutes, 60)
        if language == "en":
            steps = [f"In {CITIES[one][0]['en']} it is then {clock(start)} + {hours} h {rest} min = {flown}."]
            steps.append(f"In {CITIES[other][0]['en']} the hour is {then}.")
        else:
            steps = [f"按{CITIES[one][0]['zh']}时间是{clock(start)} + {hours}小时{rest}分 = {flown}。"]
            steps.append(f"按{CITIES[other][0]['zh']}时间，小时数是{then}。")
        if not 0 <= arrival < 24:
            turned = arrival % 24
            steps.append(f"{arrival} {'-' if arrival > 0 else '+'} {abs(arrival - turned)} = {turned}")
            arrival = turned
        return steps, 60 * arrival + minute


def clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


class Durations(ProblemKind):
    """Two times of hours, minutes and seconds added or subtracted; operands: seconds of each, and the sign."""

    name, level = "durations", 4
    spaces = (Space(range(3600, 36000), range(3600, 36000), (1, -1)),)

    def operands(self, a: int, b: int, sign: int) -> Operands | None:
        return (a, b, sign) if a > b else None

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        a, b, sign = operands
        return (b, a, sign) if sign > 0 and rng.random() < 0.5 else operands

    def identity(self, operands: Operands) -> Operands:
        a, b, sign = operands
        return (self.name, max(a, b), min(a, b), sign)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        a, b, sign = operands
        word = {"en": ("plus", "minus"), "zh": ("加", "减")}[language][sign < 0]
        return {"a": duration(a, language), "b": duration(b, language), "word": word}

    def solve(self, operands: Operands) -> int:
        a, b, sign = operands
        return a + sign * b

    def write(self, solution: Any, language: str) -> str:
        return duration(solution, language)

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        a, b, sign = operands
        seconds, minutes, hours = (one + sign * other for one, other in zip(parts(a), parts(b), strict=True))
        mark = "+" if sign > 0 else "-"
        names = {"en": ("seconds", "minutes", "hours"), "zh": ("秒", "分", "小时")}[language]
        colon = ": " if language == "en" else "："
        steps = [
            f"{name}{colon}{one} {mark} {other} = {one + sign * other}"
            for name, one, other in zip(names, parts(a), parts(b), strict=True)
        ]
        if not 0 <= seconds < 60:
            seconds, minutes = seconds - 60 * sign, minutes + sign
        if not 0 <= minutes < 60:
            minutes, hours = minutes - 60 * sign, hours + sign
        if language == "en":
            steps.append(f"1 h = 60 min, 1 min = 60 s: {hours} h {minutes} min {seconds} s")
        else:
            steps.append(f"1小时 = 60分，1分 = 60秒：{hours}小时{minutes}分{seconds}秒")
        return steps, 3600 * hours + 60 * minutes + seconds


def parts(seconds: int) -> tuple[int, int, int]:
    """Seconds, minutes, hours."""
    return seconds % 60, seconds // 60 % 60, seconds // 3600


def duration(seconds: int, language: str) -> str:
    rest, minutes, hours = parts(seconds)
    return f"{hours} h {minutes} min {rest} s" if language == "en" else f"{hours}小时{minutes}分{rest}秒"


KINDS: list[ProblemKind] = [
    DateAfter(),
    DaysBetweenYears(),
    LeapYears(),
    TimeZones(),
    Durations(),
    WeekdayFromDate(),
]

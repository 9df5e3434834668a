"""Level 3 problems about clocks and dates, computed with the Gregorian calendar."""

from datetime import date, timedelta
from random import Random
from typing import Any

from data_recipes.synthesis.programs.problem import Operands, ProblemKind, Space, words
from data_recipes.synthesis.programs.problems.basic import WEEKDAYS

CENTURY = range(date(1950, 1, 1).toordinal(), date(2050, 1, 1).toordinal())
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


def write_date(day: date, language: str) -> str:
    if language == "en":
        return f"{day.day} {MONTHS[day.month - 1]} {day.year}"
    return f"{day.year}年{day.month}月{day.day}日"


class Clock(ProblemKind):
    """Operands: hour, minute, minutes that pass."""

    name, level = "clock", 3

    spaces: tuple[Space, ...] = (Space(range(24), range(60), range(5, 181)),)

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        hour, minute, minutes = operands
        return {"start": f"{hour:02}:{minute:02}", "minutes": minutes}

    def solve(self, operands: Operands) -> int:
        hour, minute, minutes = operands
        return (60 * hour + minute + minutes) % 1440

    def write(self, solution: Any, language: str) -> str:
        hour, minute = divmod(solution, 60)
        return f"{hour:02}:{minute:02}"

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        hour, minute, minutes = operands
        more_hours, rest = divmod(minutes, 60)
        end_hour, end_minute = hour + more_hours, minute + rest
        if end_minute >= 60:
            end_hour, end_minute = end_hour + 1, end_minute - 60
        end_hour -= 24 * (end_hour >= 24)
        if language == "en":
            steps = [f"{minutes} minutes = {more_hours} h {rest} min."]
            steps.append(f"{hour:02}:{minute:02} + {more_hours} h {rest} min = {end_hour:02}:{end_minute:02}.")
        else:
            steps = [f"{minutes}分钟 = {more_hours}小时{rest}分钟。"]
            steps.append(f"{hour:02}:{minute:02} + {more_hours}小时{rest}分钟 = {end_hour:02}:{end_minute:02}。")
        return steps, 60 * end_hour + end_minute

    def chance(self, operands: Operands) -> float:
        return 1 / 1440


class DateWeekday(ProblemKind):
    """Operands: year, month, day."""

    name, level = "date-weekday", 3

    spaces: tuple[Space, ...] = (Space(CENTURY),)

    def operands(self, ordinal: int) -> Operands:
        day = date.fromordinal(ordinal)
        return day.year, day.month, day.day

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        return {"date": write_date(date(*operands), language)}

    def solve(self, operands: Operands) -> int:
        return date(*operands).weekday()

    def write(self, solution: Any, language: str) -> str:
        return WEEKDAYS[language][solution]

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        year, month, day = operands
        first = date(year, 1, 1).weekday()
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        lengths = (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
        passed = sum(lengths[: month - 1]) + day - 1
        if language == "en":
            steps = [
                f"1 January {year} was a {WEEKDAYS['en'][first]}.",
                f"{passed} days later: {passed} = {passed // 7} × 7 + {passed % 7}, so go on {passed % 7} days.",
            ]
        else:
            steps = [
                f"{year}年1月1日是{WEEKDAYS['zh'][first]}。",
                f"再过{passed}天：{passed} = {passed // 7} × 7 + {passed % 7}，往后数{passed % 7}天。",
            ]
        return steps, (first + passed) % 7

    def chance(self, operands: Operands) -> float:
        return 1 / 7


class DaysBetween(ProblemKind):
    """Operands: name index, ordinal of the first day, days that pass (at most 75)."""

    name, level = "days-between", 3

    spaces: tuple[Space, ...] = (Space(CENTURY, range(2, 76)),)

    def operands(self, start: int, days: int) -> Operands:
        return 0, start, days

    def arrange(self, operands: Operands, rng: Random) -> Operands:
        return (rng.randrange(len(words("names", "en"))), *operands[1:])

    def fields(self, operands: Operands, language: str) -> dict[str, Any]:
        name, start, days = operands
        return {
            "name": words("names", language)[name],
            "start": write_date(date.fromordinal(start), language),
            "end": write_date(date.fromordinal(start + days), language),
        }

    def identity(self, operands: Operands) -> Operands:
        return (self.name, *operands[1:])

    def solve(self, operands: Operands) -> int:
        _, start, days = operands
        return (date.fromordinal(start + days) - date.fromordinal(start)).days

    def work(self, operands: Operands, language: str) -> tuple[list[str], int]:
        _, first, days = operands
        start, end = date.fromordinal(first), date.fromordinal(first + days)
        parts, day = [], start
        while (day.year, day.month) != (end.year, end.month):
            following = (day.replace(day=1) + timedelta(31)).replace(day=1)
            parts.append((following - day).days)
            day = following
        parts.append((end - day).days)
        total = sum(parts)
        if len(parts) == 1:
            return [f"{end.day} - {start.day} = {total}"], total
        sums = " + ".join(str(part) for part in parts) + f" = {total}"
        return [f"Month by month: {sums}." if language == "en" else f"逐月相加：{sums}。"], total

    def chance(self, operands: Operands) -> float:
        return 1 / 74


KINDS: list[ProblemKind] = [Clock(), DateWeekday(), DaysBetween()]

"""Chinese prose whose content is computed: calendars, number words, units, characters, shopping, timetables.

Real Chinese text is rare on an ordinary machine; this fills the Chinese web domain up with grammatical
text that is never twice the same.
"""

import unicodedata
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from random import Random

from data_recipes.synthesis.programs.problem import is_heldout, words
from data_recipes.synthesis.programs.problems.basic import WEEKDAYS
from data_recipes.synthesis.programs.problems.calendar import DateWeekday, DaysBetween

DIGITS = "零一二三四五六七八九"
FORMAL_DIGITS = "零壹贰叁肆伍陆柒捌玖"
UNITS, FORMAL_UNITS = ("", "十", "百", "千"), ("", "拾", "佰", "仟")
STEMS, BRANCHES, ANIMALS = "甲乙丙丁戊己庚辛壬癸", "子丑寅卯辰巳午未申酉戌亥", "鼠牛虎兔龙蛇马羊猴鸡狗猪"
PLACES = (
    "北京",
    "上海",
    "广州",
    "成都",
    "西安",
    "杭州",
    "武汉",
    "南京",
    "昆明",
    "哈尔滨",
    "兰州",
    "长沙",
    "青岛",
    "厦门",
)
ROOMS = ("图书馆", "博物馆", "体育馆", "植物园", "天文馆", "美术馆", "科技馆", "少年宫")
SUBJECTS = ("语文", "数学", "英语", "物理", "化学", "历史", "地理", "生物")
# Factor to the unit on the right; the market units are those of the 1959 reform.
CONVERSIONS = (
    ("公里", "米", 1000),
    ("米", "厘米", 100),
    ("公里", "里", 2),
    ("公斤", "斤", 2),
    ("斤", "克", 500),
    ("吨", "公斤", 1000),
    ("小时", "分钟", 60),
    ("分钟", "秒", 60),
    ("天", "小时", 24),
    ("公顷", "亩", 15),
    ("升", "毫升", 1000),
    ("平方公里", "公顷", 100),
)
# Tables from the encoder of GB 2312: level-1 characters (the 3,755 common ones) are rows 16-55.
COMMON_CHARACTERS = "".join(
    bytes((0xB0 + row, 0xA1 + column)).decode("gb2312", "ignore") for row in range(40) for column in range(94)
)


def in_words(number: int, *, formal: bool = False) -> str:
    """A number below 100,000,000 in Chinese, everyday or as on cheques."""
    digits, units = (FORMAL_DIGITS, FORMAL_UNITS) if formal else (DIGITS, UNITS)
    if number >= 10_000:
        high, low = divmod(number, 10_000)
        gap = digits[0] if 0 < low < 1000 else ""
        return in_words(high, formal=formal) + "万" + gap + (in_words(low, formal=formal) if low else "")
    text, zero = "", False
    for place in (3, 2, 1, 0):
        digit = number // 10**place % 10
        if digit:
            text += (digits[0] if zero and text else "") + digits[digit] + units[place]
            zero = False
        else:
            zero = True
    if not formal and text.startswith("一十"):
        text = text[1:]
    return text or digits[0]


def year_name(year: int) -> str:
    """The year in the cycle of sixty, with its animal (of the lunar year that begins in it)."""
    return f"{STEMS[(year - 4) % 10]}{BRANCHES[(year - 4) % 12]}年，属{ANIMALS[(year - 4) % 12]}"


def is_answer(day: date, days: int) -> bool:
    """Whether the weekday of a date, or the days to another, is the answer to a held-out problem."""
    weekday = is_heldout(DateWeekday(), (day.year, day.month, day.day))
    return weekday or is_heldout(DaysBetween(), (0, day.toordinal(), days))


def calendar_note(rng: Random) -> str:
    day, days = date(1900, 1, 1) + timedelta(rng.randrange(60000)), rng.randint(20, 400)
    while is_answer(day, days):
        day = date(1900, 1, 1) + timedelta(rng.randrange(60000))
    year_day = day.timetuple().tm_yday
    length = date(day.year, 12, 31).timetuple().tm_yday
    leap = "闰年" if length == 366 else "平年"
    later = day + timedelta(days)
    week = day.isocalendar().week
    return rng.choice(
        (
            f"{day.year}年{day.month}月{day.day}日是{WEEKDAYS['zh'][day.weekday()]}，是这一年的第{year_day}天，"
            f"离年底还有{length - year_day}天。{day.year}年是{leap}，全年共有{length}天。",
            f"按照农历的干支纪年，{day.year}年是{year_name(day.year)}。"
            f"再过六十年，也就是{day.year + 60}年，干支又会回到原处。",
            f"从{day.year}年{day.month}月{day.day}日"
            f"到{later.year}年{later.month}月{later.day}日一共相隔{(later - day).days}天，"
            f"合{(later - day).days // 7}个星期零{(later - day).days % 7}天。",
            f"{day.month}月{day.day}日在{day.year}年的第{week}周，那天是{WEEKDAYS['zh'][day.weekday()]}。"
            f"它的前一天是{WEEKDAYS['zh'][(day.weekday() - 1) % 7]}，"
            f"后一天是{WEEKDAYS['zh'][(day.weekday() + 1) % 7]}。",
        )
    )


def number_note(rng: Random) -> str:
    number = rng.choice((rng.randrange(10, 1000), rng.randrange(1000, 10_000), rng.randrange(10_000, 9_999_999)))
    divisors = [factor for factor in range(2, 10) if number % factor == 0]
    facts = [
        f"{number}读作{in_words(number)}",
        f"在票据上，{number}元要写成“{in_words(number, formal=True)}元整”",
        f"{number}用二进制表示是{number:b}，用十六进制表示是{number:X}",
        f"{number}的各位数字之和是{sum(map(int, str(number)))}",
        f"把{number}的数字倒过来是{str(number)[::-1].lstrip('0')}",
        f"{number}能被{'、'.join(map(str, divisors))}整除" if divisors else f"二到九之间没有一个数能整除{number}",
        f"{number}是一个{in_words(len(str(number)))}位数，它的最高位是{str(number)[0]}",
    ]
    return "；".join(rng.sample(facts, rng.randint(2, 4))) + "。"


def unit_note(rng: Random) -> str:
    larger, smaller, factor = rng.choice(CONVERSIONS)
    count = rng.randint(2, 60)
    return rng.choice(
        (
            f"一{larger}等于{in_words(factor)}{smaller}，所以{count}{larger}就是{count * factor}{smaller}。",
            f"资料上写的是{count * factor}{smaller}，换算成{larger}，得到{count}{larger}。",
            f"把{larger}换成{smaller}要乘以{factor}：{in_words(count)}{larger}合{in_words(count * factor)}{smaller}。",
        )
    )


def temperature_note(rng: Random) -> str:
    place = rng.choice(PLACES)
    season = rng.randint(0, 30)
    highs = [season + rng.randint(-6, 6) for _ in range(7)]
    lows = [high - rng.randint(4, 12) for high in highs]
    mean = sum(highs) / 7
    best = highs.index(max(highs))
    return (
        f"{place}一周天气：" + "，".join(f"{WEEKDAYS['zh'][i]}{lows[i]}到{highs[i]}度" for i in range(7)) + "。"
        f"这一周最暖和的是{WEEKDAYS['zh'][best]}，最高气温{highs[best]}摄氏度，合华氏{highs[best] * 9 / 5 + 32:.0f}度；"
        f"最低气温{min(lows)}度。七天最高气温的平均值约为{mean:.1f}度。"
    )


def character_note(rng: Random) -> str:
    character = rng.choice(COMMON_CHARACTERS)
    encoded = character.encode()
    row, column = (byte - 0xA0 for byte in character.encode("gb2312"))
    notes = [
        f"“{character}”字的统一码是U+{ord(character):04X}，"
        f"用UTF-8编码需要{len(encoded)}个字节：{encoded.hex(' ').upper()}",
        f"在国标字符集里，“{character}”位于第{row}区第{column}位",
        f"按统一码的顺序，“{character}”的前一个字是“{chr(ord(character) - 1)}”，后一个字是“{chr(ord(character) + 1)}”",
        f"“{character}”的十进制编码为{ord(character)}",
    ]
    value = unicodedata.numeric(character, None)
    if value is not None:
        notes.append(f"“{character}”也是一个数字，它的值是{value:g}")
    return "，".join(rng.sample(notes, 2)) + "。"


def shopping_story(rng: Random) -> str:
    name, friend = rng.sample(words("names", "zh"), 2)
    place, room = rng.choice(PLACES), rng.choice(ROOMS)
    goods = rng.sample(words("goods", "zh"), rng.randint(2, 4))
    lines = [(item, rng.randint(1, 6), rng.randint(2, 45)) for item in goods]
    total = sum(number * price for _, number, price in lines)
    day = rng.choice(WEEKDAYS["zh"])
    bought = "，".join(f"{item}{number}个，每个{price}元" for item, number, price in lines)
    opening = rng.choice(
        (
            f"{day}上午，{name}和{friend}在{place}的{room}门口见面，然后一起去市场。",
            f"{name}住在{place}，{day}常常和{friend}去商店买东西。",
            f"{day}下了课，{friend}陪着{name}从{room}走到街上的小店。",
        )
    )
    return f"{opening}他们买了{bought}。一共花了{total}元，平均每人付{total / 2:g}元。" + rng.choice(
        (f"回家的路上，{friend}说，{max(lines, key=lambda line: line[2])[0]}最贵。", "天黑以前，他们都回到了家。", "")
    )


def timetable_note(rng: Random) -> str:
    start, end = rng.sample(PLACES, 2)
    leave, minutes = rng.randrange(1440), rng.randint(40, 600)
    arrive = (leave + minutes) % 1440
    number = f"{rng.choice('GDKZ')}{rng.randint(1, 999)}"
    next_day = "次日" if leave + minutes >= 1440 else "当天"
    return (
        f"{number}次列车{leave // 60:02}:{leave % 60:02}从{start}开出，全程{minutes // 60}小时{minutes % 60}分钟，"
        f"{next_day}{arrive // 60:02}:{arrive % 60:02}到达{end}。"
    )


def marks_note(rng: Random) -> str:
    names = rng.sample(words("names", "zh"), 4)
    subject = rng.choice(SUBJECTS)
    marks = rng.sample(range(55, 101), 4)
    order = sorted(zip(marks, names, strict=True), reverse=True)
    return (
        f"这次{subject}测验，"
        + "，".join(f"{name}得了{mark}分" for name, mark in zip(names, marks, strict=True))
        + "。"
        f"分数从高到低依次是{'、'.join(name for _, name in order)}。四个人的平均分是{sum(marks) / 4:g}分，"
        f"最高分和最低分相差{max(marks) - min(marks)}分。"
    )


def table_note(rng: Random) -> str:
    row = rng.randint(2, 9)
    lines = []
    for column in range(1, row + 1):
        product = in_words(row * column)
        lines.append(f"{DIGITS[column]}{DIGITS[row]}{'得' if row * column < 10 else ''}{product}")
    return f"九九乘法口诀里，{DIGITS[row]}的一行是：" + "，".join(lines) + "。"


def opening_note(rng: Random) -> str:
    place, room = rng.choice(PLACES), rng.choice(ROOMS)
    opens, closes = rng.randint(7, 10), rng.randint(16, 21)
    shut = rng.choice(WEEKDAYS["zh"])
    visitors = [rng.randint(120, 4000) for _ in range(3)]
    return (
        f"{place}{room}每天{opens}点开门，{closes}点关门，开放{closes - opens}个小时，"
        f"{shut}闭馆，所以每周一共开放{6 * (closes - opens)}个小时。"
        f"最近三天的参观人数分别是{visitors[0]}人、{visitors[1]}人和{visitors[2]}人，合计{in_words(sum(visitors))}人。"
    )


NOTES: dict[str, Callable[[Random], str]] = {
    "历法": calendar_note,
    "数字": number_note,
    "单位换算": unit_note,
    "天气": temperature_note,
    "汉字": character_note,
    "生活": shopping_story,
    "列车时刻": timetable_note,
    "成绩": marks_note,
    "口诀": table_note,
    "参观": opening_note,
}


def chinese_documents(*, seed: int, heldout: bool) -> Iterator[str]:
    """Endless documents of three to seven paragraphs, half of them on one subject and then with a title.

    Facts are drawn from spaces far larger than the corpus, and the two sides from different streams; the
    paragraph filter of the corpus removes what meets by chance.
    """
    rng = Random(f"chinese-{seed}-{heldout}")
    titles = [title for title in NOTES if title != "口诀"]
    while True:
        length = rng.randint(3, 7)
        if rng.random() < 0.5:
            title = rng.choice(titles)
            yield "\n".join([title, *(NOTES[title](rng) for _ in range(length))])
        else:
            yield "\n\n".join(NOTES[rng.choice(list(NOTES))](rng) for _ in range(length))

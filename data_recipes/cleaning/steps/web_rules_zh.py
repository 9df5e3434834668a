"""Rules for Chinese web text. Words have no spaces and lines are short, so those for English do not carry over.

Lengths are in characters. Some limits are those of EvalWeb (Chen et al. 2023, arXiv 2311.01149, `preprocess.py`, made
for ChineseWebText); some are FineWeb's or Gopher's where the rule holds in any script; the rest is ours.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from data_recipes.cleaning.limits import Limit, RuleStep
from data_recipes.cleaning.measures import measure, shares
from data_recipes.cleaning.repetition import repeated_ngram_characters
from data_recipes.cleaning.steps.base import Batch, StepSettings
from data_recipes.cleaning.words import split_words

REPEATED_NGRAM = 13
"""Ideographs, as in EvalWeb."""
ADVERTISING = (
    *("加微信", "微信号", "加我微信", "公众号", "扫码", "扫一扫", "二维码", "长按识别", "加QQ", "QQ群", "客服热线"),
    *("咨询热线", "免费咨询", "在线咨询", "立即咨询", "联系电话", "立即购买", "点击购买", "包邮", "优惠券", "限时抢购"),
    *("代开发票", "办证", "刷单", "日结", "网赚", "私服", "外挂", "加盟热线", "招商加盟", "厂家直销", "低价批发"),
    *("娱乐城", "博彩", "六合彩", "时时彩", "百家乐", "真人荷官", "棋牌平台", "彩票平台", "开户送", "成人视频", "无码"),
)
BOILERPLATE = (
    *("版权所有", "ICP备", "公网安备", "转载请注明", "未经授权", "网站地图", "友情链接", "返回首页", "返回顶部"),
    *("上一篇", "下一篇", "相关推荐", "相关阅读", "猜你喜欢", "热门搜索", "热门标签", "用户登录", "立即注册"),
    *("忘记密码", "当前位置", "收藏本站", "设为首页", "点击查看", "查看更多", "加载更多", "分享到", "免责声明"),
)
# What GBK and UTF-8 taken for each other, and memory never written to, look like.
_BROKEN = re.compile("锟斤拷|烫烫烫|屯屯屯|ï¿½|Ã[\x80-\xbf]|â€")
REASONS = {
    "min_characters": "fewer than {:.0f} characters",
    "min_mean_line": "lines shorter than {:g} characters on average",
    "min_chinese": "less than {:.0%} Chinese",
    "max_broken": "more than {:.0f} traces of a broken encoding",
    "max_odd": "more than {:.1%} control, private or replacement characters",
    "min_punctuation": "less than {:.0%} punctuation",
    "max_punctuation": "more than {:.0%} punctuation",
    "max_digits": "more than {:.0%} digits",
    "max_in_runs": "more than {:.0%} in runs of one character",
    "max_advertising": "more than {:g} advertising phrases in 100 characters",
    "max_boilerplate": "more than {:g} navigation phrases in 100 characters",
    "max_copied_lines": "more than {:.0%} of lines repeated",
    "max_copied_line_characters": "more than {:.0%} of characters in repeated lines",
    "max_repeated_13grams": "more than {:.0%} of characters in repeated 13-grams",
    "min_ended_lines": "fewer than {:.0%} of lines end a sentence",
    "max_short_lines": "more than {:.0%} of lines short",
    "min_sentences": "fewer than {:.0f} sentences",
    "max_sentence_length": "sentences longer than {:.0f} characters on average",
}
COUNTS = ("characters", "sentences", "broken")
SHARES = (
    *("mean_line", "sentence_length", "chinese", "punctuation", "digits", "odd", "in_runs"),
    *("advertising", "boilerplate"),
    *("ended_lines", "short_lines", "copied_lines", "copied_line_characters", "repeated_13grams"),
)


class WebRulesZhSettings(StepSettings):
    step: Literal["web-rules-zh"] = "web-rules-zh"
    short_line: int = Field(10, ge=0)
    """FineWeb's 30 characters of English say about as much as 10 of Chinese."""
    advertising: tuple[str, ...] = ADVERTISING
    boilerplate: tuple[str, ...] = BOILERPLATE

    min_characters: Limit = 200  # EvalWeb
    min_mean_line: Limit = 10  # EvalWeb
    min_chinese: Limit = 0.3  # EvalWeb, of all characters; here without spaces
    max_repeated_13grams: Limit = 0.25  # EvalWeb: 0.5, where the first occurrence counts too
    min_ended_lines: Limit = 0.12  # FineWeb
    max_short_lines: Limit = 0.67  # FineWeb
    max_copied_lines: Limit = 0.3  # Gopher
    max_copied_line_characters: Limit = 0.1  # FineWeb
    max_broken: Limit = 2  # ours: an article about encodings quotes one
    max_odd: Limit = 0.005  # ours
    min_punctuation: Limit = 0.02  # ours: prose has 8 to 15 %, lists of keywords none
    max_punctuation: Limit = 0.35  # ours
    max_digits: Limit = 0.3  # ours: tables of prices, telephone lists
    max_in_runs: Limit = 0.1  # ours
    max_advertising: Limit = 0.5  # ours
    max_boilerplate: Limit = 1.0  # ours
    min_sentences: Limit = 3  # ours: C4's 5 for English
    max_sentence_length: Limit = 300  # ours


class WebRulesZh(RuleStep[WebRulesZhSettings]):
    name: ClassVar[str] = "web-rules-zh"
    Settings = WebRulesZhSettings
    prefix: ClassVar[str] = "zh_"
    reasons_by_limit: ClassVar[Mapping[str, str]] = REASONS

    def schema(self) -> pa.Schema:
        counts = [(f"zh_{name}", pa.int64()) for name in COUNTS]
        return pa.schema(counts + [(f"zh_{name}", pa.float64()) for name in SHARES])

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        found = measure(batch.texts, short_line=self.settings.short_line)
        written = found["characters"] - found["spaces"]
        words = split_words(batch.texts)
        columns = {
            "characters": written,
            "sentences": found["sentences"],
            "broken": _count(_BROKEN, batch.texts),
            "mean_line": shares(written, found["lines"]),
            "sentence_length": shares(written, found["sentences"]),
            "advertising": 100 * shares(_count(_any_of(self.settings.advertising), batch.texts), written),
            "boilerplate": 100 * shares(_count(_any_of(self.settings.boilerplate), batch.texts), written),
            "copied_line_characters": shares(
                found["copied_line_characters"], found["characters"] - found["line_feeds"]
            ),
            "repeated_13grams": shares(repeated_ngram_characters(words, REPEATED_NGRAM), written),
        }
        for name in ("chinese", "punctuation", "digits", "odd", "in_runs"):
            columns[name] = shares(found[name], written)
        for name in ("ended_lines", "short_lines", "copied_lines"):
            columns[name] = shares(found[name], found["lines"])
        return {f"zh_{name}": columns[name] for name in (*COUNTS, *SHARES)}


def _any_of(phrases: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, phrases)) if phrases else r"(?!)")


def _count(pattern: re.Pattern[str], texts: Sequence[str]) -> np.ndarray:
    return np.array([len(pattern.findall(text)) for text in texts], dtype=np.int64)

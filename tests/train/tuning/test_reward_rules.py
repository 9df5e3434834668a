"""The rule penalties on English and Chinese: what they find, and how seldom they touch text that people wrote."""

import pydoc_data.topics
import random
import re
from inspect import getdoc
from types import ModuleType

import pytest

from data_recipes.instruct.prose import is_one_line_filler, is_unfinished, language_of, mixes_languages
from train.tuning.rewards.base import Completion, reward_kinds

UNFINISHED = [
    "",
    "The first step is to",
    "We add the two numbers, then divide by the",
    "The reasons are as follows:",
    "Use this:\n```python\nprint(1)",
    "$$x = 1 + 2",
    "Paris lies on the Seine and has been the largest city of the whole country for many hundred",
    "首先，我们把两个数相加，然后",
    "原因有以下几点：",
    "北京是中国的首都。它位于华北平原的北部，有三千多年的历史，并且",
    "春天来了，公园里的花都开了，孩子们在草地上跑来跑去，老人们坐在长椅上一边晒太阳一边聊着过去的事情",
]
FINISHED = [
    "42",
    "Paris.",
    "7 + 8 = 15\nAnswer: 15",
    "小明有 7 个苹果。\n答案：7",
    "The answer is $\\frac{1}{2}$",
    'She said: "I am done."',
    "Steps:\n1. Cut the bread\n2. Put cheese between the two slices\n3. Bake it for ten minutes at a high temperature",
    "```python\nprint(1)\n```",
    "See https://example.org/a/b/",
    "Have fun! 🎉",
    "北京是中国的首都。",
    "“我已经做完了。”",
    "步骤如下：\n- 切面包\n- 把奶酪放在两片面包之间\n- 烤十分钟",
    "| a | b |\n|---|---|\n| 1 | 2 |",
]


@pytest.mark.parametrize("text", UNFINISHED)
def test_a_text_that_stops_in_the_middle_is_unfinished(text):
    assert is_unfinished(text)


@pytest.mark.parametrize("text", FINISHED)
def test_a_text_that_ends_is_not(text):
    assert not is_unfinished(text)


@pytest.mark.parametrize(
    ("question", "text", "mixed"),
    [
        ("What is the capital of China?", "The capital of China is Beijing.", False),
        ("What is the capital of China?", "The capital of China is Beijing (北京).", False),
        ("What is the capital of China?", "The capital 首都是北京，它位于华北 of the country.", True),
        ("What is the capital of China?", "中国的首都是北京。", True),
        ("How do you say hello in Chinese?", "你好，很高兴认识你。", False),
        ("Translate to French: good morning", "Bonjour.", False),
        ("What is 2 + 2?", "Это четыре, конечно.", True),
        ("中国的首都是哪里？", "中国的首都是北京。", False),
        ("中国的首都是哪里？", "The capital of China is Beijing, and it has been so for a very long time.", True),
        (
            "什么是 Python？",
            "Python 是一种编程语言，由 Guido van Rossum 设计，常用 NumPy、pandas、PyTorch 等库。",
            False,
        ),
        (
            "什么是 Python？",
            "Python 是一种语言，which was designed by Guido van Rossum and is used by many people 的。",
            True,
        ),
        (
            "请把“早上好”翻译成英语，并解释用法。",
            "Good morning is what you say to a person until it is noon or so.",
            False,
        ),
        (
            "写一段代码。",
            "```python\n# this is the code that prints all of the numbers of a list in order\nprint(1)\n```",
            False,
        ),
    ],
)
def test_prose_in_a_language_that_nobody_asked_for_is_found(question, text, mixed):
    assert mixes_languages(question, text) is mixed


# Written down without a look at filler.txt's patterns.
FILLER = [
    "Sure!",
    "Of course! I'd be happy to help you with that.",
    "Certainly, I can help you with this.",
    "That's a great question!",
    "I'm sorry, but I can't help with that.",
    "Sure, here is the answer:",
    "...",
    "Thank you for your question!",
    "好的！",
    "当然可以，我很乐意帮助您。",
    "好的，下面是答案：",
    "对不起，我不知道。",
    "这是一个很好的问题！",
    "谢谢您的提问。",
]
NO_FILLER = [
    "42",
    "Yes.",
    "Paris.",
    "Sure, it is 42.",
    "I'm sorry, the train left at 5.",
    "是的，答案是 5。",
    "不是。",
    "北京",
]


def test_most_of_the_fillers_that_come_to_mind_are_found():
    found = [text for text in FILLER if is_one_line_filler("What is 6 * 7?", text)]
    assert len(found) >= 0.75 * len(FILLER), set(FILLER) - set(found)


@pytest.mark.parametrize("text", NO_FILLER)
def test_a_short_answer_is_no_filler(text):
    assert not is_one_line_filler("What is 6 * 7?", text)


def test_the_question_again_is_filler():
    assert is_one_line_filler("What is six times seven?", "what is six times seven")
    assert not is_one_line_filler("Say yes", "yes")


def documentation() -> list[str]:
    """Whole texts that people wrote and ended: documentation of Python's library."""
    modules = [__import__(name) for name in ("argparse", "shutil", "subprocess", "threading", "typing", "textwrap")]
    found = [
        getdoc(value) for module in modules for value in vars(module).values() if not isinstance(value, ModuleType)
    ]
    return [text for text in dict.fromkeys(filter(None, found)) if len(text) > 200]


def test_few_whole_texts_are_called_unfinished_and_many_cut_ones_are():
    whole, draw = documentation(), random.Random(0)
    assert len(whole) > 40
    assert sum(map(is_unfinished, whole)) <= 0.05 * len(whole)
    stopped = [re.sub(r"\W+$", "", text[: draw.randrange(len(text) // 3, len(text) - 3)]) for text in whole]
    assert sum(map(is_unfinished, stopped)) >= 0.2 * len(whole)


def test_english_prose_is_neither_mixed_nor_filler():
    texts = [*documentation(), *pydoc_data.topics.topics.values()]
    assert not any(mixes_languages("What does this do?", text) for text in texts)
    lines = [line for text in texts for line in text.splitlines() if any(map(str.isalnum, line))]
    assert len(lines) > 5000
    assert not any(is_one_line_filler("What does this do?", line) for line in lines)


def test_language_is_told_by_the_prose_alone():
    assert language_of("请解释 `for i in range(10): print(i)` 的意思") == "zh"
    assert language_of("What does 你好 mean in this sentence?") == "en"
    assert language_of("1 + 1 = $2$") is None


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("unfinished", Completion([{"role": "user", "content": "Hi"}], "Well.", ended=False), "Well."),
        ("language_mixing", Completion([{"role": "user", "content": "你是谁？"}], FINISHED[1] * 20), "我是助手。"),
        ("one_line_filler", Completion([{"role": "user", "content": "What is 6 * 7?"}], "Sure!"), "42"),
    ],
)
def test_a_penalty_is_minus_one_where_its_rule_is_broken(name, bad, good):
    kind = reward_kinds()[name]
    if name == "language_mixing":
        bad = Completion(bad.prompt, "I am an assistant that was made to answer the questions of all of you.")
    assert kind(kind.Settings()).score([bad, Completion(bad.prompt, good)]) == [-1.0, 0.0]

"""The shipped configs: each runs on real text of its kind, drops planted junk for the right reason, keeps good text."""

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

import data_recipes
from data_recipes.cleaning.clean import clean
from data_recipes.cleaning.config import checked_config, load_cleaning_config, shipped_configs, step_kinds
from data_recipes.cleaning.pipeline.inputs import parse_inputs
from data_recipes.errors import DataError

ROOT = Path(data_recipes.__file__).parents[1]
RIVER = (
    "The river rises in the hills to the north of the town and flows past the old mill. "
    "People have fished there for as long as anyone can remember. In the spring the water is high, "
    "and the fields on both banks are flooded for a week or two. Nobody seems to mind. "
    "The farmers say that the mud is good for the grass, and the children wait for the day when boats "
    "can be rowed over the meadows. By June everything is green again, and the mill wheel turns slowly."
)
TEA = (
    "茶树原产于中国西南部的山区，野生的大茶树可以长到十几米高。人们最初把鲜叶当作药材来煮着喝，后来才慢慢学会了晒干和炒制。"
    "到了唐代，饮茶已经成为各地百姓日常生活的一部分，陆羽写下了世界上第一部专门讲茶的书。\n"
    "不同的加工方法会得到完全不同的味道。绿茶不经过发酵，保留了叶子原来的颜色和清香；红茶要等叶片完全氧化之后再烘干，汤色红亮，"
    "味道醇厚。乌龙茶介于两者之间，需要反复摇青，工序最为复杂。\n"
    "冲泡的时候，水温也很有讲究。嫩芽不能用滚水，否则会又苦又涩；老叶则要用沸水，才能把香气逼出来。"
    "好茶往往要泡上三四次，每一次的滋味都有细微的变化，所以喝茶的人总是不慌不忙。"
)
PROOF = (
    "We show that the sum of the first $n$ odd numbers is $n^2$. For $n = 1$ the sum is $1 = 1^2$, "
    "so the claim holds.\n"
    "Suppose that it holds for $n$; the next odd number is $2n + 1$. Then\n"
    "\\[\\sum_{k=1}^{n+1} (2k - 1) = n^2 + 2n + 1 = (n + 1)^2,\\]\n"
    "which is the claim for $n + 1$.\n"
    "\\begin{align*}\n1 &= 1 \\\\\n1 + 3 &= 4 \\\\\n1 + 3 + 5 &= 9\n\\end{align*}"
)
LICENCE = "# Copyright 2020 Nobody\n# Licensed under the Apache License, Version 2.0 (the License).\n\n"


def prose(seed: int) -> str:
    """As `RIVER`, of other words."""
    return "\n".join(book(seed).splitlines()[:4])


def tea(seed: int) -> str:
    """As `TEA`, with other characters."""
    return "".join(chr(ord(old) + seed) if "\u4e00" <= old < "\u9f00" else old for old in TEA)


def proof(letter: str) -> str:
    return PROOF.replace("n", letter)


def code(letter: str) -> str:
    names = [f"{letter}{n}" for n in range(5)]
    return "".join(f"def {name}(value_{name}):\n    return value_{name} * {len(name)}\n\n\n" for name in names)


def book(seed: int) -> str:
    """Prose of some thousand words."""
    draw = random.Random(seed)
    nouns = [
        "river",
        "mill",
        "town",
        "field",
        "farmer",
        "boat",
        "meadow",
        "wheel",
        "spring",
        "hill",
        "bank",
        "grass",
        "child",
        "water",
        "bridge",
    ]
    verbs = ["follows", "remembers", "passes", "leaves", "watches", "crosses", "carries", "finds", "keeps", "loses"]
    others = ["old", "green", "slow", "quiet", "high", "long", "narrow", "cold", "bright", "distant"]
    sentence = "The {} {} {} the {} {}, and nobody in the {} could say whether the {} was {} or {}."
    pieces = (nouns, nouns, verbs, others, nouns, nouns, nouns, others, others)
    lines = [
        " ".join(
            sentence.format(*map(draw.choice, pieces)) + f" It was the year {draw.randint(1100, 1950)}." for _ in "xx"
        )
        for _ in range(150)
    ]
    return "\n".join(lines)


# By config: name of a file, its text, and the step and reason that it is dropped for, or None.
PLANTED = {
    "synthetic": [
        ("a-good.txt", RIVER, None),
        ("copy.txt", RIVER, "exact-duplicates"),
        ("near.txt", RIVER[:-20], "near-duplicates"),
        ("chinese.txt", TEA, None),
    ],
    "web-en": [
        ("a-good.txt", RIVER, None),
        ("copy.txt", RIVER, "exact-duplicates"),
        ("near.txt", RIVER[:-20], "near-duplicates"),
        ("menu.txt", "Home\nAbout us\nContact\nPrivacy policy\nWe use cookies here", "web-lines: no line left"),
        ("chinese.txt", TEA, "language: not in en"),
        ("half.txt", "\n".join([prose(1), tea(1)]), "language: "),
        ("short.txt", prose(2)[:120], "web-rules: fewer than 50 words"),
        ("list.txt", "\n".join(f"- buy the {n}th thing of all the things to have" for n in range(90)), "web-rules: "),
        ("spam.txt", "the best price to be had and " * 60, "web-rules: one 2-gram makes more than 20%"),
    ],
    "web-zh": [
        ("a-good.txt", TEA, None),
        ("copy.txt", TEA, "exact-duplicates"),
        ("english.txt", RIVER, "language: not in zh"),
        ("short.txt", tea(1)[:100], "web-rules-zh: fewer than 200 characters"),
        ("advert.txt", tea(2).replace("，", "，加微信扫码，"), "web-rules-zh: more than 0.5 advertising phrases"),
        ("words.txt", tea(3).replace("，", " ").replace("。", " "), "web-rules-zh: less than 2% punctuation"),
        ("broken.txt", tea(4) + "锟斤拷" * 5, "web-rules-zh: more than 2 traces of a broken encoding"),
        ("laugh.txt", "哈哈哈哈哈哈哈哈" * 40 + "。" + tea(5), "web-rules-zh: more than 10% in runs of one character"),
        ("again.txt", "\n".join([tea(6)] * 4), "web-rules-zh: more than 30% of lines repeated"),
    ],
    "code": [
        ("a-good.py", code("a"), None),
        ("licence.py", LICENCE + code("a"), "exact-duplicates"),
        ("only.py", LICENCE, "licence-headers: nothing but a licence"),
        ("made.py", "# Code generated by a tool.\n" + code("b"), "code-rules: generated by a program"),
        ("min.js", "function a(b){return b*2};" * 60, "code-rules: a line longer than 1000 characters"),
        ("hex.c", "int x[] = {\n" + "0x1f, 0x2e, 0x3d, 0x4c, 0x5b, 0x6a,\n" * 90 + "};", "code-rules: more than 1024"),
        ("data.yaml", "".join(f"key{n}: {n}\n" for n in range(900)), "code-rules: more than 5000 characters"),
        ("app.html", "<html>" + "<div class='x' id='y'></div>\n" * 40 + "</html>", "code-rules: less than 20%"),
        ("notes.py", "# " + RIVER.replace(". ", ".\n# ") + "\nx = 1\n", "code-rules: more than 80% comments"),
        ("text.md", prose(1), None),
    ],
    "math": [
        ("good.txt", PROOF, None),
        ("answer.txt", "Question: which is the larger of 12 and 35? " + RIVER[:160] + " So 12 + 23 = 35.", None),
        ("plain.txt", RIVER, "math-rules: less than 1.0% formulas, digits and signs of arithmetic"),
        ("cut.txt", proof("k")[: PROOF.index("\\]")], "math-rules: more than 0 formulas that nothing ends"),
        ("failed.txt", proof("m") + " [Math Processing Error]" * 4, "math-rules: more than 2 formulas that could not"),
    ],
    "books": [
        ("good.txt", book(1), None),
        ("chinese.txt", "\n".join(tea(n) for n in range(6)), None),
        ("page.txt", RIVER, "book-rules: fewer than 1000 words"),
        ("scan.txt", book(2).replace("river", "riv3r").replace("town", "t0wn"), "book-rules: more than 2.0% of words"),
        ("index.txt", "\n".join(f"The {n}th matter of the mill ........ {n}" for n in range(200)), "book-rules: "),
        ("cut.txt", book(3).replace("e", "\ufffd"), "book-rules: more than 0.2% control"),
    ],
    "mixed": [
        ("good.txt", RIVER, None),
        ("tea.txt", TEA, None),
        ("good.py", code("a"), None),
        ("proof.txt", PROOF, None),
        ("short.txt", prose(1)[:120], "web-rules: fewer than 50 words"),
        ("short-zh.txt", tea(1)[:100], "web-rules-zh: fewer than 200 characters"),
        ("made.py", "# @generated\n" + code("b"), "code-rules: generated by a program"),
        ("cut.txt", proof("k")[: PROOF.index("\\]")], "math-rules: more than 0 formulas"),
        ("german.txt", "Der Fluss entspringt in den Hügeln nördlich der Stadt und fließt dann vorbei.", "language"),
    ],
    "miniature": [
        ("river.txt", RIVER, None),
        ("tea.txt", TEA, None),
        ("short.txt", "Kept, however short.", None),
        ("same.txt", RIVER.replace(". ", ".\n"), "exact-duplicates: same text"),
        ("much.txt", RIVER[:-80], "near-duplicates: near duplicate"),
        ("much-zh.txt", TEA[:-30], "near-duplicates: near duplicate"),
    ],
}
REAL = {
    "web-en": [*ROOT.glob("docs/*.md")],
    "code": [*ROOT.glob("data_recipes/*.py"), *ROOT.glob("data_recipes/packing/*.py")],
    "mixed": [*ROOT.glob("docs/*.md"), *ROOT.glob("data_recipes/packing/*.py")],
}
# Of this repository's own text; pages of tables and commands are no web prose.
KEPT_SHARE = {"web-en": 0.3, "code": 0.95, "mixed": 0.5}


@pytest.mark.parametrize("name", PLANTED)
def test_junk_is_dropped_for_what_it_is_and_good_text_kept(name, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number, path in enumerate(REAL.get(name, [])):
        (folder / f"{number:03d}-{path.name}").write_text(path.read_text())
    for file, text, _ in PLANTED[name]:
        (folder / f"planted-{file}").write_text(text)
    out = tmp_path / "out"
    clean(load_cleaning_config(name), parse_inputs([f"all={folder}"]), out)
    found = {row["file"]: None for path in out.glob("kept/*") for row in pq.read_table(path).to_pylist()}
    for path in out.glob("dropped/*"):
        found |= {row["file"]: f"{row['step']}: {row['reason']}" for row in pq.read_table(path).to_pylist()}
    for file, _, reason in PLANTED[name]:
        got = found[f"planted-{file}"]
        assert (got is None) == (reason is None), (file, got)
        assert reason is None or got.startswith(reason), (file, got)
    real = [reason for file, reason in found.items() if not file.startswith("planted-")]
    assert not real or sum(reason is None for reason in real) >= KEPT_SHARE[name] * len(real)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"step": "web-rules", "min_wordz": 5}, "min_words"),
        ({"step": "web-rules", "min_words": "many"}, "min_words"),
        ({"step": "code-rules", "for_languages": {"pyhton": {"max_lines": 5}}}, "python"),
        ({"step": "code-rules", "limits": {"max_line": 5}}, "max_line"),
        ({"step": "language", "languages": ["English"]}, "languages"),
        ({"step": "language", "pieces": 0}, "pieces"),
        ({"step": "kind", "math_characters": 3}, "math_characters"),
        ({"step": "web-rules", "only": {"knd": "text"}}, "knd"),
    ],
)
def test_wrong_settings_are_refused_before_a_document_is_read(entry, message):
    with pytest.raises(DataError, match=message) as caught:
        checked_config({"steps": [{"step": "kind"}, entry] if entry["step"] != "kind" else [entry]})
    assert len(str(caught.value).splitlines()) <= 3


def test_every_shipped_config_is_tested():
    assert set(shipped_configs()) == set(PLANTED)


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_every_limit_is_written_out_with_its_source(name):
    """The numbers of a config are those that its steps have by default, so that none is known by the code alone."""
    entries = {entry["step"]: entry for entry in yaml.safe_load(shipped_configs()[name].read_text())["steps"]}
    by_rules = ("web-rules", "web-rules-zh", "code-rules", "math-rules", "book-rules")
    for step in load_cleaning_config(name).steps:
        entry = entries[step.settings.step]
        if step.settings.step not in by_rules:
            continue
        resolved = json.loads(step.settings.model_dump_json(exclude={"only", "advertising", "boilerplate"}))
        default = json.loads(type(step.settings)().model_dump_json(exclude={"only", "advertising", "boilerplate"}))
        assert resolved == default
        assert resolved.keys() <= entry.keys()


def test_what_comes_later_is_shown_in_every_config_of_raw_text():
    """Steps that need models or evaluation sets stand in comments that are a config once they are none."""
    for name in sorted(shipped_configs().keys() - {"miniature", "synthetic"}):
        lines = shipped_configs()[name].read_text().splitlines()
        first = next(place for place, line in enumerate(lines) if line.startswith("  # 4. to 6."))
        code = [line.replace("  # ", "  ", 1) for line in lines[first:] if line.startswith(("  # -", "  #  "))]
        entries = yaml.safe_load("\n".join(code))
        for entry in entries:
            step_kinds()[entry["step"]].Settings(**entry)
        steps = [entry["step"] for entry in entries]
        assert steps[-1] == "decontamination", name
        assert steps == [step for step in ("topic", "quality", "decontamination") if step in steps], name

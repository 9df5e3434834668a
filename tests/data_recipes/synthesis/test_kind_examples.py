"""All kinds: the guide shows their prompts and settings, and its examples become training text."""

import asyncio
import textwrap
from pathlib import Path

import pytest
import yaml
from told_answers import CHECKS, ToldModel

from data_recipes.recipes.templates import template_renderer
from data_recipes.registry import named_subclasses
from data_recipes.synthesis.kinds.base import Kind
from data_recipes.synthesis.prompts import FOLDER, instruction_lines, prompt_files, prompt_version

REPOSITORY = Path(__file__).resolve().parents[3]
GUIDE = (REPOSITORY / "docs" / "synthesis-kinds.md").read_text(encoding="utf-8")
EXAMPLES = yaml.safe_load((REPOSITORY / "tests" / "data" / "kind_examples.yaml").read_text(encoding="utf-8"))
KINDS = {name: kind for name, kind in named_subclasses(Kind).items() if name != "programs"}  # type: ignore[type-abstract]


def indented(text: str) -> str:
    return textwrap.indent(text.strip(), "    ")


@pytest.mark.parametrize("name", KINDS)
def test_the_guide_shows_each_kind_with_its_prompts_settings_and_example(name):
    kind, example = KINDS[name], EXAMPLES[name]
    section = GUIDE.split(f"\n## `{name}`\n")[1].split("\n## ")[0]
    for part, path in prompt_files(name).items():
        assert f"`{part}.jinja`" in section
        assert indented(path.read_text(encoding="utf-8")) in section
    for shown in (*example["seed"].values(), *example["answers"]):
        assert indented(shown) in section, shown
    for word in (*kind.columns, *kind.optional_columns, *kind.fields, *kind.settings, kind.template):
        assert f"`{word}" in section, word
    for option in kind.options:
        assert f"--set {option}=" in section, option
    for setting, value in kind.settings.items():
        assert f"`{setting}` {str(value).strip('[]')}" in section.replace("`Human:`", "'Human:'"), setting


@pytest.mark.parametrize("name", KINDS)
def test_an_example_becomes_training_text(name):
    kind, example = KINDS[name](**EXAMPLES[name].get("settings", {})), EXAMPLES[name]
    sample = asyncio.run(kind.make(example["seed"], ToldModel(*example["answers"])))
    sample = kind.verify(sample, CHECKS)
    assert sample.checked
    text = template_renderer(kind.template, {})(sample.fields)
    for field in kind.text_fields:
        assert sample.fields[field] in text
    assert not any(line in text for line in instruction_lines(name))


def test_every_prompt_is_of_a_kind_and_a_changed_one_is_another_version(tmp_path, monkeypatch):
    assert {path.relative_to(FOLDER).parts[0].removesuffix(".jinja") for path in FOLDER.rglob("*.jinja")} == set(KINDS)
    assert len({prompt_version(name) for name in KINDS}) == len(KINDS)
    (tmp_path / "math-cot.jinja").write_text("{{ question }}")
    before = prompt_version("math-cot")
    monkeypatch.setattr("data_recipes.synthesis.prompts.FOLDER", tmp_path)
    assert prompt_version("math-cot") != before

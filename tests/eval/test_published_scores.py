"""The published scores are those of an independent copy (the README's own tables, noted facts), number by number."""

import re
from pathlib import Path

import pytest

from data_recipes.errors import DataError
from eval import published_scores as published
from eval.errors import EvalError
from eval.published_scores import PublishedTable, average, column_of, models, scores, scores_of, tables

COPY = Path(__file__).parent / "published" / "independent_copy.md"
ABSENT = ("-", "N/A")
# The columns of the README's tables, and what its first column calls a model, in the order of its rows.
TABLE_6 = ["math500", "gsm8k", "humaneval", "mbpp", "race_middle", "race_high", "ruler"]
TABLE_7 = ["lambada", "mmlu", "cmmlu", "ceval", "hellaswag", "winogrande", "storycloze", "arc_easy", "arc_challenge"]
README = ["mmlu_0shot_cot", "ceval", "gsm8k_8shot", "arc_challenge", "gpqa", "math", "humaneval", "mbpp pass@10"]
CARD_COLUMNS = [
    "mmlu_0shot_cot",
    "mmlu",
    "truthfulqa",
    "arc_challenge",
    "gpqa",
    "math",
    "gsm8k_8shot",
    "gsm8k_0shot",
    "humaneval",
    "humaneval_plus",
    "humaneval pass@10",
    "humaneval_plus pass@10",
    "mbpp",
    "mbpp_plus",
    "mbpp pass@10",
    "mbpp_plus pass@10",
]
CARD_MODELS = ["YuLan-Mini-Instruct", "Llama3.2-3B-Instruct", "Qwen2.5-1.5B-Instruct"]


def section(name: str) -> str:
    return COPY.read_text(encoding="utf-8").partition(f"## {name}")[2].partition("\n## ")[0].partition("\n")[2]


def readme_rows(name: str) -> list[list[str]]:
    """The body of a Markdown table, without bold and underline."""
    lines = [line for line in section(name).splitlines() if line.startswith("|")][2:]
    return [[re.sub(r"</?ins>|\*\*|\\", "", cell).strip() for cell in line.strip("|").split("|")] for line in lines]


def compare(row: list[str | float | None], cells: list[str]) -> None:
    """One row of ours against one of the copy's, quotation marks included."""
    for cell, text in zip(row, cells, strict=True):
        if text in ABSENT:
            assert cell is None
        else:
            assert isinstance(cell, str) == text.endswith("*")
            assert float(str(cell).removesuffix("*")) == float(text.removesuffix("*"))


@pytest.mark.parametrize(("place", "name", "columns"), [(0, "Table 6", TABLE_6), (1, "Table 7", TABLE_7)])
def test_base_tables_are_the_readmes(place: int, name: str, columns: list[str]) -> None:
    table = tables(published.BASE)[place]
    assert (table.title, table.columns) == (name, columns)
    copied = readme_rows(name)
    assert len(copied) == len(table.scores) == 10
    for (model, row), (called, *cells) in zip(table.scores.items(), copied, strict=True):
        compare(row, cells[-len(columns) :])
        letters = re.sub(r"[^a-z0-9.]", "", model.lower())
        assert letters.startswith(re.sub(r"[^a-z0-9.]", "", called.lower()).split("2.42")[0])
        if name == "Table 6":  # size, tokens and context stand there too
            size, tokens, context = cells[:3]
            known = models()[model]
            assert known.parameters == pytest.approx(float(size.removesuffix("B")) * 1e9)
            assert known.tokens == pytest.approx(float(tokens.removesuffix("T")) * 1e12)
            assert known.context == context
            assert known.training_flops == pytest.approx(6 * known.parameters * known.tokens)


def test_instruct_scores_are_the_cards_and_the_readmes() -> None:
    card, readme, later = tables(published.INSTRUCT)
    # "HumanEval p@1 67.7/51.5/61.6, + 61.6/45.2/47.0, p@10 ...": each group of three numbers is a column.
    triples = re.findall(r"([\d.]+)/([\d.]+)/([\d.]+)", section("Card"))
    assert card.columns == CARD_COLUMNS
    assert list(card.scores) == CARD_MODELS
    for place, model in enumerate(CARD_MODELS):
        compare(card.scores[model], [triple[place] for triple in triples])
    assert readme.columns == README
    copied = {cells[0].replace("Qwen-2.5", "Qwen2.5"): cells[1:] for cells in readme_rows("Instruct, README")}
    assert copied.keys() == readme.scores.keys()
    for model, row in readme.scores.items():
        compare(row, copied[model])
    assert later.scores == {"YuLan-Mini-Instruct": [50.5, 82.3]}
    # What the README heads MBPP@1 are the card's pass@10.
    for model in CARD_MODELS[1:]:
        assert len(scores_of(published.INSTRUCT, model, "mbpp pass@10")) == 1


def test_trajectory_and_tokenizers_are_those_noted() -> None:
    (trajectory,) = tables(published.TRAJECTORY)
    lines = section("Trajectory").split("\n")
    noted = [re.match(r"(?:phase )?(\d+)(?: 4K)?: (.*)", line) for line in lines if line.strip()]
    assert len(noted) == len(trajectory.scores) == 7
    for (phase, row), found in zip(trajectory.scores.items(), noted, strict=True):
        assert found is not None
        assert phase == f"phase {found[1]}"
        compare(row, found[2].split("/"))
    (table_2,) = tables(published.TOKENIZERS)
    lines = [line for line in section("Table 2").splitlines() if line.strip()]
    assert len(lines) == len(table_2.scores) == 8
    for (model, row), line in zip(table_2.scores.items(), lines, strict=True):
        found = re.fullmatch(rf"{re.escape(model)} ([\d,]+): (.*)", line)
        assert found is not None, line
        compare(row, [found[1].replace(",", ""), *found[2].split()])


def test_numbers_that_disagree_are_both_given_with_their_sources() -> None:
    found = scores_of(published.INSTRUCT, "YuLan-Mini-Instruct", "gsm8k_8shot")
    assert [score.value for score in found] == [81.8, 82.3]
    assert ["card" in score.source for score in found] == [True, False]
    assert [score.value for score in scores_of(published.INSTRUCT, "Llama3.2-3B-Instruct", "gpqa")] == [32.6, 38.6]


def test_every_number_has_a_source_a_column_and_a_plausible_value() -> None:
    for kind in (published.BASE, published.TRAJECTORY, published.INSTRUCT):
        for score in scores(kind):
            assert score.source
            assert score.column in published.columns()
            assert 0 < score.value < 100
    assert {score.model for score in scores(published.BASE)} == models().keys()


def test_the_average_of_figure_1_needs_all_eight() -> None:
    eight = {column: float(place) for place, column in enumerate(published.figure_1_columns())}
    assert len(eight) == 8
    assert average(eight) == 3.5
    assert average(eight | {"lambada": 99.0}) == 3.5
    del eight["gsm8k"]
    assert average(eight) is None


def test_a_wrong_table_or_column_is_named() -> None:
    good = {"title": "T", "source": "s", "columns": ["a", "b"], "scores": {"m": [1.0, "2.0*"]}}
    assert PublishedTable.model_validate(good)
    for scores_of_m, message in (([1.0], "1 numbers for 2 columns"), ([1.0, "2.o"], "'2.o' is no number")):
        with pytest.raises(ValueError, match=message):
            PublishedTable.model_validate(good | {"scores": {"m": scores_of_m}})
    with pytest.raises(EvalError, match=r"no column 'humanval'\. Did you mean 'humaneval'"):
        column_of("humanval", "accuracy", is_first=True)
    assert column_of("humaneval", "pass@10", is_first=False) == "humaneval pass@10"
    assert column_of("arc_easy", "accuracy by length", is_first=False) is None


def test_every_benchmark_names_a_column_that_exists() -> None:
    from eval.harness.benchmark import all_benchmarks

    for name, entry in all_benchmarks().items():
        if entry.published is not None:
            assert entry.published in published.columns(), name


def test_a_broken_file_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base.yaml").write_text("- {title: T, source: s, colums: [a], scores: {}}\n")
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    with pytest.raises(DataError, match=r"base\.yaml: table 1.*colums"):
        tables.__wrapped__(published.BASE)

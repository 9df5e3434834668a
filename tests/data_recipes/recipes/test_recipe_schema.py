"""A user's recipe: what is read, and one clear message for each way to get it wrong."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.errors import DataError
from data_recipes.recipes.recipe import Recipe, Source, Subset, load_recipe

EXAMPLE = """\
name: my-anneal
context_length: 4096
tokenizer: path-or-hub-id
seed: 7
subsets:
  - {name: code, tokens: 2_000_000, source: {path: corpus/code, glob: "**/*.py"}}
  - {name: prose, tokens: 3_000_000, source: {path: corpus/books.jsonl, text: content}, max_epochs: 2}
  - {name: web, tokens: 5_000_000, source: {hub: HuggingFaceFW/fineweb-edu, config: sample-10BT, split: train, text: text}}
"""  # noqa: E501


@pytest.fixture
def recipe_file(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "my-anneal.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_the_documented_example_is_read_as_written(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file(EXAMPLE))
    assert [subset.tokens for subset in recipe.subsets] == [2_000_000, 3_000_000, 5_000_000]
    assert (recipe.context_length, recipe.seed, recipe.tokenizer) == (4096, 7, "path-or-hub-id")
    code, prose, web = (subset.source for subset in recipe.subsets)
    assert code.location == (tmp_path / "corpus/code").resolve()
    assert code.glob == "**/*.py"
    assert prose.text_column == "content"
    assert recipe.subsets[1].max_epochs == 2
    assert (web.hub, web.config, web.split) == ("HuggingFaceFW/fineweb-edu", "sample-10BT", "train")


def test_a_recipe_survives_being_written_and_read_again(recipe_file):
    recipe = load_recipe(recipe_file(EXAMPLE))
    again = load_recipe(recipe_file(yaml.safe_dump(recipe.model_dump(mode="json", exclude_none=True))))
    assert again == recipe


@pytest.mark.parametrize(
    ("old", "new", "place", "advice"),
    [
        ("glob:", "globs:", "subsets[0].source.globs", "Did you mean 'glob'?"),
        ("seed: 7", "sed: 7", "sed", "Did you mean 'seed'?"),
        ("max_epochs:", "max_epoch:", "subsets[1].max_epoch", "Did you mean 'max_epochs'?"),
        ("name: web", "name: web, domain: maths", "subsets[2].domain", "Did you mean 'math'?"),
        ("text: content", "template: qaa", "subsets[1].source", "Did you mean 'qa'?"),
        ("context_length: 4096\n", "", "context_length", "must be given"),
        ("2_000_000", "0", "subsets[0].tokens", "greater than 0"),
        ("2_000_000", "-5", "subsets[0].tokens", "greater than 0"),
        ("2_000_000", "1.5", "subsets[0].tokens", "1.5"),
        ("2_000_000", "true", "subsets[0].tokens", "not a whole number"),
        ("2_000_000", "many", "subsets[0].tokens", "many"),
        ("max_epochs: 2", "max_epochs: 0", "subsets[1].max_epochs", "0"),
        ("4096", "1", "context_length", "1"),
        ("seed: 7", "seed: -1", "seed", "-1"),
        ("name: prose", "name: code", "subsets[1]", "subsets[0]"),
        ("seed: 7", "seed: 7\nseed: 8", "line 5", "given twice"),
        ("**/*.py", "../**/*.py", "subsets[0].source.glob", "leaves its folder"),
        ("**/*.py", "/etc/*", "subsets[0].source.glob", "leaves its folder"),
        ("hub: HuggingFaceFW", "hub: https://huggingface.co/HuggingFaceFW", "subsets[2].source.hub", "owner/name"),
        ("path: corpus/code", "path: corpus/code, hub: a/b", "subsets[0].source", "give one"),
        ('{path: corpus/code, glob: "**/*.py"}', "{}", "subsets[0].source", "no place to read from"),
        ('{path: corpus/code, glob: "**/*.py"}', "fineweb-edo", "subsets[0].source", "Did you mean 'fineweb-edu'?"),
        ("my-anneal", "../my-anneal", "name", "folder"),
        ("name: my-anneal\n", "- a\n", "my-anneal.yaml", "YAML"),
    ],
)
def test_a_mistake_is_answered_with_file_place_and_advice(recipe_file, old, new, place, advice):
    assert old in EXAMPLE
    path = recipe_file(EXAMPLE.replace(old, new, 1))
    with pytest.raises(DataError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert place in message
    assert advice in message


@pytest.mark.parametrize("text", ["", "[]", "just words", "name: a\ncontext_length: 8\nsubsets: []"])
def test_a_file_that_is_no_recipe_is_refused(recipe_file, text):
    with pytest.raises(DataError, match=r"my-anneal\.yaml: "):
        load_recipe(recipe_file(text))


def test_missing_folders_and_bytes_that_are_no_text_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(DataError, match=r"not UTF-8|not valid YAML"):
        load_recipe(tmp_path / "bytes.yaml")
    with pytest.raises(DataError, match="a folder"):
        load_recipe(tmp_path)


@pytest.mark.parametrize("typed", ["{away}/code", "../away/code", "~/away/code", "away/../../away/code", "linked/code"])
def test_a_recipe_may_read_text_anywhere(tmp_path, monkeypatch, typed):
    away, folder = tmp_path / "away", tmp_path / "recipe"
    (away / "code").mkdir(parents=True)
    (folder / "away").mkdir(parents=True)
    (folder / "linked").symlink_to(away, target_is_directory=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = folder / "my-anneal.yaml"
    path.write_text(EXAMPLE.replace("corpus/code", typed.format(away=away), 1))
    source = load_recipe(path).subsets[0].source
    assert source.location == (away / "code").resolve()
    assert source.public_label == ("linked/code/**/*.py" if typed == "linked/code" else "code/**/*.py")


def test_a_link_keeps_the_name_that_tells_its_format(tmp_path):
    (tmp_path / "blob").write_text("{}")
    (tmp_path / "a.jsonl").symlink_to("blob")
    assert Source(path=str(tmp_path / "a.jsonl")).location.name == "a.jsonl"


def test_yaml_cannot_run_code(recipe_file):
    with pytest.raises(DataError, match="not valid YAML"):
        load_recipe(recipe_file(EXAMPLE.replace("my-anneal", "!!python/object/apply:os.getcwd []", 1)))


@pytest.mark.parametrize(
    ("phase", "near"), [("28", "27"), ("0", "1"), ("-3", "1"), ("26-5k", "26-4k"), ("seven", "1 to 27")]
)
def test_an_unknown_phase_names_the_valid_ones(phase, near):
    with pytest.raises(DataError) as caught:
        load_recipe(phase)
    assert near in str(caught.value)
    assert "26-4k" in str(caught.value)


def test_phases_are_found_by_number_or_name():
    assert load_recipe(7) is load_recipe("7") is load_recipe("07") is load_recipe("phase-07")
    assert (load_recipe("26").context_length, load_recipe("26-4K").context_length) == (28_672, 4_096)


def recipe_of(tokens: list[int]) -> Recipe:
    return Recipe(
        name="r",
        context_length=128,
        subsets=tuple(
            Subset(name=str(index), tokens=count, domain="code", source=Source(path="x"))
            for index, count in enumerate(tokens)
        ),
    )


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=60), st.integers(0, 10**13))
def test_scaling_gives_the_exact_total_and_keeps_proportions(weights, extra):
    total = len(weights) + extra
    shares = [subset.tokens for subset in recipe_of(weights).scaled(tokens=total).subsets]
    assert sum(shares) == total
    assert min(shares) >= 1
    exact = [weight * total / sum(weights) for weight in weights]
    # Within one token, but for what the largest give so that no subset is left without any.
    lifted = sum(1 for value in exact if value < 1)
    assert all(abs(share - value) <= 1.001 + lifted + value * 1e-12 for share, value in zip(shares, exact, strict=True))


def test_a_published_mix_scales_to_the_token_and_keeps_every_subset():
    phase = load_recipe(25)
    small = phase.scaled(scale=1e-6, context_length=128)
    assert small.tokens == round(phase.tokens * 1e-6)
    assert small.context_length == 128
    assert [subset.name for subset in small.subsets] == [subset.name for subset in phase.subsets]
    assert phase.scaled(tokens=phase.tokens).subsets[0].tokens == phase.subsets[0].tokens


@pytest.mark.parametrize("arguments", [{"scale": 0.0}, {"scale": -1.0}, {"tokens": 2}, {"scale": 1.0, "tokens": 9}])
def test_impossible_scales_are_refused(arguments):
    with pytest.raises(DataError):
        recipe_of([1, 2, 3]).scaled(**arguments)


def test_sources_are_replaced_by_domain_or_the_missing_one_is_named():
    recipe = recipe_of([5, 7])
    replaced = recipe.with_sources({"code": Source(path="/elsewhere/code.jsonl")})
    assert {subset.source.path for subset in replaced.subsets} == {"/elsewhere/code.jsonl"}
    assert replaced.tokens == recipe.tokens
    with pytest.raises(DataError, match="domain code"):
        recipe.with_sources({"math": Source(path="m")})

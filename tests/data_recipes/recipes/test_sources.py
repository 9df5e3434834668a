"""The published sources: every subset resolved, every entry consistent, shares that add up."""

import json
from collections import Counter

import pytest
import typer
from typer.testing import CliRunner

from data_recipes.errors import DataError
from data_recipes.recipes.recipe import load_recipe, published_recipes
from data_recipes.recipes.shares import (
    ACCESS_MEANS,
    place_uses,
    subset_uses,
    tokens_by_access,
    trained_recipes,
)
from data_recipes.recipes.source import AUTHORS_RELEASE, Source, load_sources, resolve_source
from yulanmini.commands.data_sources import sources as sources_command

# Hub ids of the authors' list that are spelt otherwise on the Hub (escaped hyphens, renamed owners, defects).
RENAMED = {
    "TigerResearch/pretrain-zh": "TigerResearch/pretrain_zh",
    "deepmind/math-dataset": "deepmind/math_dataset",
    "princeton-nlp/less-data": "princeton-nlp/less_data",
    "hfl/ruozhiba-gpt4": "hfl/ruozhiba_gpt4",
    "vikp/textbook-quality-programming": "vikp/textbook_quality_programming",
    "manu/project-gutenberg": "manu/project_gutenberg",
    "WizardLMTeam/WizardLM-evol-instruct-V2-196k": "WizardLMTeam/WizardLM_evol_instruct_V2_196k",
    "deepseek-ai/DeepSeek-Prover-V1?row=0": "deepseek-ai/DeepSeek-Prover-V1",
}


@pytest.fixture(scope="module")
def uses():
    return subset_uses(trained_recipes())


def test_all_292_subsets_are_resolved(uses):
    assert len(uses) == 292
    everywhere = {subset.name for recipe in published_recipes() for subset in [*recipe.subsets, *recipe.unselected]}
    assert {use.name for use in uses} == everywhere


def test_every_entry_is_read_by_some_subset(uses):
    assert {use.source_name for use in uses} == set(load_sources())


def gaps(source: Source) -> list[str]:
    """What an entry leaves unsaid."""
    found = []
    if source.path is not None:
        found.append("a local path")
    if source.language is None:
        found.append("no language")
    if source.access == "not-public":
        if source.hub or source.url or not source.note:
            found.append("not public, but with a place or without a reason")
    elif source.access == "off-hub":
        if source.hub or not (source.url or "").startswith("https://"):
            found.append("off the Hub, but with an id or without a url")
    elif not source.hub or source.verified is None or not callable(source.renderer()):
        found.append("no id, or not said whether it was checked, or no way to its text")
    return found


def test_every_entry_says_how_to_get_at_the_text_or_why_not():
    assert {name: gaps(source) for name, source in load_sources().items() if gaps(source)} == {}


def test_ids_that_changed_are_given_by_their_current_name():
    hubs = {source.hub for source in load_sources().values()}
    assert not hubs & set(RENAMED)
    assert set(RENAMED.values()) <= hubs


def test_ids_only_sources_never_pretend_to_have_text(uses):
    """the-stack-v2 holds blob ids; read as they are they would give empty documents."""
    only_ids = {use.source.hub for use in uses if use.source.access == "ids-only"}
    assert only_ids == {"bigcode/the-stack-v2"}
    row = {"blob_id": "00ab", "repo_name": "a/b", "language": "Shell", "length_bytes": 3}
    for use in uses:
        if use.source.access == "ids-only":
            with pytest.raises(DataError, match="no column"):
                use.source.renderer()(row)


def test_scored_variants_of_a_subset_do_not_share_an_entry(uses):
    by_entry = Counter(use.source_name for use in uses)
    assert {name for name, count in by_entry.items() if count > 1} == {"opencoder-fineweb-math"}


def test_recalled_pages_need_their_scores(uses):
    """Without the classifier's column nothing is kept: never unscored pages under a scored name."""
    recalled = [use.source for use in uses if use.source.scorer == "yulan-team/math-classifier"]
    assert len(recalled) == 10
    for source in recalled:
        assert not source.keeps({"text": "x"})
        low, high = source.filters[0].min, source.filters[0].max
        assert source.keeps({"math_score": (low + high) / 2})
        assert not source.keeps({"math_score": low - 0.01})


def test_the_authors_own_data_is_read_from_their_release(uses):
    own = [use for use in uses if use.name.startswith(("wjp_scored/", "code_gen_qwen/", "math_gen_qwen/"))]
    assert len(own) > 50
    assert {use.source.hub for use in own} == {AUTHORS_RELEASE}
    assert len({use.source.data_files for use in own}) == len(own)


def test_what_the_authors_released_as_token_ids_is_decoded(uses):
    tokenised = {use.source.hub for use in uses if use.source.decode_with}
    assert tokenised == {"yulan-team/YuLan-Mini-Datasets"}
    for use in uses:
        if use.source.hub in tokenised:
            assert (use.source.text, use.source.decode_with) == ("input_ids", "yulan-team/YuLan-Mini")


def test_shares_add_up_to_the_whole_curriculum(uses):
    total = sum(recipe.tokens for recipe in trained_recipes())
    assert round(total / 1e9, 2) == 1084.89
    assert sum(use.tokens for use in uses) == total
    assert sum(place.tokens for place in place_uses(uses)) == total
    by_access = tokens_by_access(uses)
    assert set(by_access) == set(ACCESS_MEANS)
    assert sum(by_access.values()) == total
    assert by_access["not-public"] / total < 0.03
    largest = place_uses(uses)[0]
    assert largest.place == "HuggingFaceFW/fineweb-edu"


def test_a_subset_of_nothing_is_listed_with_its_source():
    uses = {use.name: use for use in subset_uses([load_recipe(19)])}
    assert uses["fineweb-edu-2024"].tokens == 0
    assert uses["fineweb-edu-2024"].source.hub == "HuggingFaceFW/fineweb-edu"


def test_an_unknown_source_name_is_answered_with_the_nearest():
    subset = load_recipe(1).subsets[0].model_copy(update={"source": "fineweb-eduu"})
    with pytest.raises(DataError, match="Did you mean 'fineweb-edu'"):
        resolve_source(subset.source, where=subset.name)


def run(*arguments: str) -> str:
    app = typer.Typer()
    app.command()(sources_command)
    result = CliRunner().invoke(app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def test_the_command_prints_the_table_for_all_phases_or_one(uses):
    shown = json.loads(run("--json"))
    assert shown["tokens"] == sum(use.tokens for use in uses)
    assert len(shown["subsets"]) == 292
    assert sum(item["tokens"] for item in shown["access"].values()) == shown["tokens"]
    one = json.loads(run("27", "--json"))
    assert one["tokens"] == load_recipe(27).tokens
    text = run("27")
    assert "HuggingFaceFW/fineweb-edu" in text
    assert "not-public" in text
    assert len(run("27", "--subsets").splitlines()) == 2 + 123


def test_the_command_takes_a_users_recipe(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ncontext_length: 16\nsubsets:\n"
        "  - {name: a, tokens: 5, source: {path: a.txt}}\n  - {name: b, tokens: 15, source: fineweb-edu}\n"
    )
    shown = json.loads(run(str(tmp_path / "mine.yaml"), "--json"))
    assert [(place["place"], place["share"]) for place in shown["places"]] == [
        ("HuggingFaceFW/fineweb-edu", 0.75),
        ("a.txt", 0.25),
    ]


def test_the_table_says_what_a_build_can_read_as_it_stands(uses):
    readable = {use.name: use.source.readable for use in uses}
    assert readable["aa_math/proof-pile-2/arxiv"] == readable["pes2o-paper-en/v1"] == "yes"
    assert readable["dolma-unzip/reddit"] == "no"
    assert {use.source.access for use in uses if use.source.readable == "no"} == {
        "ids-only",
        "script-based",
        "off-hub",
        "not-public",
    }
    after_scoring = [use for use in uses if use.source.readable == "after scoring"]
    assert {use.source.filters[0].field for use in after_scoring} == {"math_score"}
    shown = json.loads(run("--json"))
    assert sum(shown["readable"].values()) == shown["tokens"]
    assert shown["readable"]["after scoring"] == sum(use.tokens for use in after_scoring)


def test_an_entry_that_cannot_be_read_says_why(uses):
    from data_recipes.reading.files import SourceMissing
    from data_recipes.reading.opening import open_supply

    reasons = {
        "dolma-reddit": "script-based, and the entry does not name its files",
        "arxiv": "off-hub, fetch it and give it as a path",
        "bestsellers-zh": "nothing to read",
    }
    for name, reason in reasons.items():
        with pytest.raises(SourceMissing, match=reason):
            open_supply(load_sources()[name])

"""Cards: made again from the repo alone, every number with a place, the owner's words kept."""

import json
import re
from pathlib import Path

import pytest
from small_run import card_of, without_weights

from hub_cards.cards.card import BEGIN, END, owners_words, render_again, trace, write_again, write_card
from hub_cards.cards.evidence import OPERATIONS, Figures, load, look_up
from hub_cards.cards.page import table
from hub_cards.cards.settings import CardSettings
from hub_cards.errors import HubError
from hub_cards.repos.machine_paths import without_machine_paths
from yulanmini.run_layout import card_files

REPOS = ("tiny-checkpoints", "tiny", "tiny-instruct", "tiny-data")


@pytest.mark.parametrize("repo", REPOS)
def test_a_card_is_made_again_from_the_repo_alone_byte_for_byte(repo_copy, repo):
    folder = repo_copy(repo)
    text, provenance = render_again(folder)
    assert text.encode() == (folder / "README.md").read_bytes()
    assert provenance == load(folder / "provenance.json")
    assert trace(folder) == []


@pytest.mark.parametrize("repo", REPOS)
def test_every_claim_can_be_looked_up_by_someone_who_has_only_the_repo(published, repo):
    """An evaluator of its own, which knows the file and nothing of the cards."""
    folder = published / repo
    provenance = load(folder / "provenance.json")

    def value(origin):
        if isinstance(origin, dict):
            return OPERATIONS[origin["op"]]([value(one) for one in origin["of"]])
        file, pointer = origin.split("#")
        own = file.startswith("repo:")
        place = folder / (file.removeprefix("repo:") if own else provenance["files"][file]["at"])
        return look_up(load(place), pointer, file)

    assert len(provenance["claims"]) > 5
    card = (folder / "README.md").read_text()
    for claim in provenance["claims"]:
        found = value(claim if "op" in claim else f"{claim['file']}#{claim['pointer']}")
        assert (found, format(found, claim["form"])) == (claim["value"], claim["text"])
        assert claim["text"] in card


@pytest.mark.parametrize("repo", REPOS)
def test_every_number_in_a_table_of_a_card_is_in_its_provenance(published, repo):
    claims = {claim["text"] for claim in load(published / repo / "provenance.json")["claims"]}
    lines = [line for line in (published / repo / "README.md").read_text().splitlines() if line.startswith("|")]
    assert len(lines) > 4
    named = re.sub(
        r"`\S+`|phase-?\d\d(-4k)?|^\| [\d-]+k?|float32|level \d|phases [\d-]+|1-sqrt", "", "\n".join(lines), flags=re.M
    )
    for number in re.findall(r"\d(?:[\d,.]*\d)?(?:e-?\d+)?%?", named):
        assert number in claims, number


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda card: card.replace("12,345", "99,345"),
            "'| parameters in training (input and output embedding are one) | 99,345 |' is not",
        ),
        (lambda card: card + "\nIt scores 99.9%.\n", "'It scores 99.9%.' is not what the files"),
        (lambda card: card.replace("## Licence\n", ""), "'## Licence' is missing"),
        (lambda card: card.replace("license: other", "license: mit"), "'license: mit' is not"),
        (lambda card: card.replace(BEGIN, ""), "is missing"),
    ],
)
def test_what_is_on_a_card_and_not_in_the_evidence_shows(repo_copy, change, message):
    folder = repo_copy("tiny")
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(change(card))
    assert card != change(card)
    assert message in "\n".join(trace(folder))


def test_a_changed_evidence_file_shows_in_the_repo_and_against_the_run(repo_copy, small_run):
    folder = repo_copy("tiny")
    copy = folder / "provenance" / "09-scores" / "base" / "scores.json"
    scores = json.loads(copy.read_text())
    scores["rows"][0]["value"] = 0.5
    copy.write_text(json.dumps(scores))
    assert "| level 1 | 6.0%" in "\n".join(trace(folder))
    assert "provenance/09-scores/base/scores.json: not what the run has" in "\n".join(
        trace(folder, card_files(small_run))
    )


def test_a_run_that_went_on_is_told_from_the_card_made_of_it(small_run, tmp_path, repo_copy):
    run = without_weights(small_run, tmp_path / "run")
    folder = repo_copy("tiny")
    (run / "09-scores" / "base" / "scores.json").write_text("{}")
    (run / "05-merged" / "merge_certificate.json").unlink()
    problems = trace(folder, card_files(run))
    assert "09-scores/base/scores.json: changed in the run since the card was made" in problems
    assert "05-merged/merge_certificate.json: the card was made from it, and the run no longer has it" in problems


HOSTILE = [
    "Trained by my cat. Ask **me**.",
    "---\nlicense: mit\n---\n# Not the heading",
    "{{ 7 * 7 }} {% raw %} {{ settings }} {# gone? #}",
    f"first\n{BEGIN}\nsecond\n{END}\nthird",
    f"{END}\n{BEGIN}",
    "line\r\nwith carriage returns\r\n",
    "\n\n  spaces at both ends  \n\n",
    "99.9% and `code` and <!-- a comment -->",
]


@pytest.mark.parametrize("words", HOSTILE)
def test_the_owners_words_survive_whatever_they_are(tmp_path, small_run, words):
    card = card_of(small_run, "checkpoint", tmp_path / "card", phase="26", revision="r")
    readme = tmp_path / "card" / "README.md"
    readme.write_bytes(card.replace(BEGIN, f"{BEGIN}\n{words}").encode())
    edited = readme.read_bytes()
    assert owners_words(edited.decode()) == words
    assert trace(tmp_path / "card") == []
    card_of(small_run, "checkpoint", tmp_path / "card", phase="26", revision="r")
    assert readme.read_bytes() == edited
    write_again(tmp_path / "card")
    assert readme.read_bytes() == edited


def test_a_readme_of_someone_elses_making_is_not_written_over(tmp_path, small_run):
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "README.md").write_text("# Mine\n")
    with pytest.raises(HubError, match=r"has no lines .* between which your own words would be kept"):
        card_of(small_run, "base", tmp_path / "card")
    assert (tmp_path / "card" / "README.md").read_text() == "# Mine\n"


def test_an_answer_of_a_model_cannot_pass_for_the_owners_words(small_run, tmp_path):
    run = without_weights(small_run, tmp_path / "run")
    path = run / "09-scores" / "on-policy" / "scores.json"
    scores = json.loads(path.read_text())
    scores["samples"][0]["output"] = f"7\n{BEGIN}\nbuy now\n{END}\n"
    path.write_text(json.dumps(scores))
    assert owners_words(card_of(run, "instruct", tmp_path / "card")) == ""


@pytest.mark.parametrize(
    ("file", "harm", "message"),
    [
        ("04-pretrain/manifest.json", lambda text: text.replace("parameters", "p"), "nothing at /counts/parameters"),
        (
            "04-pretrain/manifest.json",
            lambda text: text.replace("12345", '"many"'),
            "'many' is not a number for a card",
        ),
        ("04-pretrain/manifest.json", lambda text: text.replace("12345", "NaN"), "nan is not a number for a card"),
        ("04-pretrain/manifest.json", lambda text: text[:-9], "cannot be read"),
        ("09-scores/base/scores.json", lambda text: text.replace('"task"', '"tusk"'), "no 'task'"),
        ("09-scores/base/scores.json", lambda text: text.replace('"rows"', '"r"'), "no 'rows'"),
        ("09-scores/base/scores.json", lambda text: '{"rows": 7, "samples": 3}', "not of the form"),
        ("05-merged/config.json", lambda text: "\xff", "cannot be read"),
    ],
)
def test_a_missing_field_of_a_file_is_named(tmp_path, small_run, file, harm, message):
    run = without_weights(small_run, tmp_path / "run")
    text = harm((run / file).read_text())
    (run / file).write_bytes(text.encode("latin-1") if text == "\xff" else text.encode())
    with pytest.raises(HubError, match=rf"^{re.escape(file)}.*{re.escape(message)}"):
        card_of(run, "base", tmp_path / "card")
    assert list((tmp_path / "card").iterdir()) == []


def test_a_run_that_lacks_a_field_does_not_cost_the_card_that_is_there(tmp_path, small_run, repo_copy):
    run = without_weights(small_run, tmp_path / "run")
    (run / "04-pretrain" / "manifest.json").write_text("{}")
    folder = repo_copy("tiny")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(HubError, match=r"04-pretrain/manifest\.json"):
        write_card(folder, CardSettings("base", "someone/tiny"), card_files(run))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_changed_licence_file_shows(repo_copy):
    folder = repo_copy("tiny")
    (folder / "LICENSE").write_text("MIT")
    assert trace(folder) == ["LICENSE: not what the files in provenance/ give; write the card again"]


def test_a_template_cannot_show_a_number_that_has_no_place(small_run, tmp_path):
    with pytest.raises(AssertionError, match="a card would show '93%'"):
        table({"headers": ["model", "right"], "rows": [["ours", "93%"]]})
    with pytest.raises(AssertionError, match="a card would show 93"):
        table({"headers": ["model", "right"], "rows": [["ours", 93]]})
    figures = Figures(card_files(small_run), tmp_path)
    assert "| 12,345 |" in table(
        {"headers": ["", "value"], "rows": [["", figures.figure("04-pretrain/manifest.json", "/counts/parameters")]]}
    )


def test_a_log_of_every_step_is_not_copied_whole(small_run, tmp_path):
    run = without_weights(small_run, tmp_path / "run")
    lines = [json.dumps({"step": step, "loss": 3 / step}) for step in range(1, 2001)]
    (run / "06-sft" / "metrics.jsonl").write_text("\n".join(lines))
    card_of(run, "instruct", tmp_path / "card")
    copy = tmp_path / "card" / "provenance" / "06-sft" / "metrics.jsonl"
    assert copy.read_text().splitlines() == [lines[0], lines[-1]]
    assert load(tmp_path / "card" / "provenance.json")["files"]["06-sft/metrics.jsonl"]["lines"] == [1, 2000]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("dir: /somewhere/runs/tiny/03-data", "dir: ./03-data"),
        ('{"path": "/data/text/web.jsonl"}', '{"path": "web.jsonl"}'),
        ("/somewhere/runs/tiny-2/x", "x"),
        (
            "see https://huggingface.co/a/b and a/b, 1/2/3 or ./x/y",
            "see https://huggingface.co/a/b and a/b, 1/2/3 or ./x/y",
        ),
        (r"C:\\Users\\ann\\text", "text"),
        ("</s></think>", "</s></think>"),
    ],
)
def test_copies_do_not_tell_of_the_machine(text, kept):
    assert without_machine_paths(text, Path("/somewhere/runs/tiny")) == kept


@pytest.mark.parametrize(
    "change",
    [
        {"card": {"kind": "poem", "repo_id": "a/b"}},
        {"card": []},
        {"run": {"data": "../.."}},
        {"run": {"pretrain": "/etc"}},
        {"run": {"elsewhere": 1}},
        {"files": None},
    ],
)
def test_a_provenance_that_leads_elsewhere_is_one_message(repo_copy, change):
    folder = repo_copy("tiny")
    provenance = load(folder / "provenance.json") | change
    (folder / "provenance.json").write_text(json.dumps(provenance))
    assert trace(folder)


def test_a_number_of_a_card_is_not_taken_for_a_settings_kind(tmp_path, small_run):
    with pytest.raises(HubError, match="no kind of card 'song'"):
        write_card(tmp_path, CardSettings("song", "a/b"), card_files(small_run))

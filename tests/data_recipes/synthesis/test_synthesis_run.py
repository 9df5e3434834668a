"""A run of the synthesis: every seed gets one row with its verdict, whatever the model and its server do."""

from functools import partial

import pytest
from endpoint_server import Reply, last, serve_answers
from synthesis_runs import made, outputs, prepared, prompts, right, rows, verdicts, write_seeds
from tokenizers import Tokenizer

from data_recipes.cleaning.config import checked_config
from data_recipes.endpoint import client
from data_recipes.errors import DataError
from data_recipes.manifest import read_manifest, verify_files
from data_recipes.packing.build import build_phases
from data_recipes.recipes.recipe import Recipe, Source, Subset
from data_recipes.rows.reader import PackedRows
from data_recipes.synthesis import progress, verifying
from data_recipes.synthesis import seeds as seeds_module
from data_recipes.synthesis import synthesize as synthesize_module
from data_recipes.synthesis.estimate import estimate
from data_recipes.synthesis.summary import read_summary, recipe_source
from data_recipes.synthesis.synthesize import plan
from yulanmini.report.synthesis import synthesis_page


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(seeds_module, "SHARD_SEEDS", 4)


def test_every_seed_has_a_row_in_its_order_with_prompt_answer_fields_and_verdict(tmp_path):
    lines = [
        '{"text": "1 + 2", "gold": "3"}',
        "not JSON",
        '{"text": ""}',
        '{"text": "2 + 2", "gold": "5"}',
        '{"text": "3 + 4"}',
        '{"other": 1}',
        '{"text": "5 + 5"}',
        '{"text": "half a pair \\ud800"}',
    ]
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "seeds" / "b.jsonl").write_text('{"text": "7 + 7"}\n')
    with serve_answers(lambda body: "no idea" if "5 + 5" in last(body) else right(body)) as server:
        manifest = made(tmp_path / "seeds", tmp_path / "out", server.url)
    assert verdicts(tmp_path / "out") == [
        "accepted",
        "rejected: seed: malformed JSON",
        "rejected: seed: no text",
        "rejected: wrong answer",
        "accepted",
        "rejected: seed: no text",
        "rejected: no result",
        "failed: no answer: the request cannot be written as JSON (str is not valid UTF-8: surrogates not allowed)",
        "accepted",
    ]
    found = rows(tmp_path / "out")
    assert [(row["seed_file"], row["seed_row"]) for row in found] == [
        *(("a.jsonl", row) for row in range(8)),
        ("b.jsonl", 0),
    ]
    first = found[0]
    assert first["prompt"] == "Work out: 1 + 2"
    assert first["response"] == "We put 1 and 2 together, one after the other = 3"
    assert (first["problem"], first["answer"]) == ("1 + 2", "3")
    assert first["text"] == "1 + 2\n\nWe put 1 and 2 together, one after the other"
    assert (first["seed_source"], first["kind"], first["finish_reason"]) == ("seeds", "test-sums", "stop")
    assert (found[6]["response"], found[6]["problem"], found[6]["text"]) == ("no idea", None, None)
    assert (
        manifest["counts"] | {"accepted": 3, "rejected": 5, "failed": 1, "seeds": 9, "answers": 5} == manifest["counts"]
    )
    assert verify_files(tmp_path / "out") == []
    page = synthesis_page(read_summary(tmp_path / "out"))
    for words in ("wrong answer", "malformed JSON", "Work out: 5 + 5", "Samples to look at"):
        assert words in page


def test_the_bytes_do_not_depend_on_tasks_or_on_how_much_is_asked_at_a_time(tmp_path):
    seeds = write_seeds(tmp_path / "seeds" / "a.jsonl", 30)
    write_seeds(tmp_path / "seeds" / "b.jsonl", 11, first=20)
    with serve_answers(right) as server:
        for number, options in enumerate(({"concurrency": 1}, {"concurrency": 64}, {"tasks": 2, "concurrency": 8})):
            made(seeds.parent, tmp_path / str(number), server.url, **options)
    assert len(rows(tmp_path / "0")) == 41
    assert outputs(tmp_path / "0") == outputs(tmp_path / "1") == outputs(tmp_path / "2")


def test_faults_of_the_server_are_tried_again_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "LONGEST_WAIT", 0.01)
    seeds = write_seeds(tmp_path / "seeds.jsonl", 12)
    with serve_answers(right) as server:
        for kind in ("429", "500", "503", "garbage", "not json", "half", "cut", "reset", "error in 200"):
            server.breaks(kind, times=1, retry_after=0)
        server.breaks("400", where="7 + 49")
        made(seeds, tmp_path / "out", server.url, tries=10)
    assert verdicts(tmp_path / "out") == ["accepted"] * 7 + ["failed: no answer: 400"] + ["accepted"] * 4
    work = tmp_path / "out" / "work"
    used = progress.usage_so_far(work)
    assert (used.retried.total(), used.failed) == (9, {"400": 1})
    assert progress.seeds_done(work) == (12, 12)
    assert progress.usage_line(work).endswith("tokens/s, 9 retried, 1 failed")


def test_an_answer_without_an_end_fails_and_one_that_cannot_be_parsed_is_rejected(tmp_path):
    seeds = write_seeds(tmp_path / "seeds.jsonl", 3)
    told = {"Work out: 1 + 1": Reply("and so on", endless=True), "Work out: 2 + 4": "\x00 <script>alert(1)</script>"}
    with serve_answers(lambda body: told.get(last(body), right(body))) as server:
        made(seeds, tmp_path / "out", server.url)
    assert verdicts(tmp_path / "out") == ["accepted", "failed: no end", "rejected: no result"]
    assert rows(tmp_path / "out")[1]["finish_reason"] == "length"
    assert "<script>alert" not in synthesis_page(read_summary(tmp_path / "out"))


@pytest.mark.parametrize("fault", ["401", "no such model", "down"])
def test_a_server_that_answers_nothing_ends_the_run_and_finished_work_is_kept(tmp_path, fault, monkeypatch):
    monkeypatch.setattr(synthesize_module, "check_endpoint", partial(client.check_endpoint, patience=0.1))
    seeds = write_seeds(tmp_path / "seeds.jsonl", 12)
    out = tmp_path / "out"
    with serve_answers(right, key="right") as server:
        monkeypatch.setenv("OPENAI_API_KEY", "right")
        made(seeds, out, server.url, limit=6)
        url, options = server.url, {}
        if fault == "401":
            monkeypatch.setenv("OPENAI_API_KEY", "wrong-and-long")
        elif fault == "down":
            url = "http://127.0.0.1:9/v1"
        else:
            options = {"model": "another"}
        with pytest.raises(DataError) as error:
            made(seeds, out, url, **options)
        assert {"401": "OPENAI_API_KEY", "down": "running", "no such model": "no model 'another'"}[fault] in str(
            error.value
        )
        assert "wrong-and-long" not in str(error.value)
        monkeypatch.setenv("OPENAI_API_KEY", "right")
        made(seeds, out, server.url)
        assert len(server.answered) == 12
    assert verdicts(out) == ["accepted"] * 12


def test_answers_longer_than_the_context_are_refused_before_the_first_request(tmp_path):
    seeds = write_seeds(tmp_path / "seeds.jsonl", 3)
    with serve_answers(right) as server:
        with pytest.raises(DataError, match=r"context of 4,096 tokens, but answers may have 5,000 .*--set max_tokens"):
            made(seeds, tmp_path / "out", server.url, settings={"max_tokens": 5000})
        assert server.asked == []


def test_a_server_that_goes_away_in_the_middle_loses_nothing(tmp_path, monkeypatch):
    seeds = write_seeds(tmp_path / "seeds.jsonl", 40)
    out = tmp_path / "out"
    with serve_answers(right) as server:
        server.breaks("404", after=20)
        with pytest.raises(DataError, match="Answers so far are kept"):
            made(seeds, out, server.url, concurrency=2)
        server.faults.clear()
        made(seeds, out, server.url)
        assert server.asked_twice() == []
    assert verdicts(out) == ["accepted"] * 40


def test_what_the_server_did_not_answer_is_asked_again_when_that_is_wanted(tmp_path):
    seeds = write_seeds(tmp_path / "seeds.jsonl", 9)
    out = tmp_path / "out"
    with serve_answers(right) as server:
        server.breaks("400", where="7 + 49")
        made(seeds, out, server.url)
        server.faults.clear()
        asked = len(server.asked)
        made(seeds, out, server.url)
        assert len(server.asked) == asked, "finished is finished"
        assert verdicts(out)[7] == "failed: no answer: 400"
        made(seeds, out, server.url, again=True)
        assert prompts(server.asked[asked:]) == ["Work out: 7 + 49"]
    assert verdicts(out) == ["accepted"] * 9
    assert read_summary(out)["lost"] == 0


def test_copies_are_rejected_wherever_they_are_and_other_steps_give_scores(tmp_path):
    write_seeds(tmp_path / "seeds" / "a.jsonl", 8)
    write_seeds(tmp_path / "seeds" / "b.jsonl", 6, first=5)
    steps = [{"step": "exact-duplicates"}, {"step": "language", "languages": ["en"], "min_share": 0.0}]
    config = checked_config({"most_lost_of_a_source": 1.0, "steps": steps})
    with serve_answers(lambda body: right(body) if "1 + 1" not in last(body) else "no idea") as server:
        made(tmp_path / "seeds", tmp_path / "out", server.url, cleaning=config)
    copy = "rejected: same text as another document"
    assert verdicts(tmp_path / "out") == [
        "accepted",
        "rejected: no result",
        *["accepted"] * 6,
        *[copy] * 3,
        *["accepted"] * 3,
    ]
    found = rows(tmp_path / "out")
    assert [row["language"] for row in found] == [
        None if row["response"] == "no idea" else row["language"] for row in found
    ]
    assert {row["language"] for row in found if row["verdict"] == "accepted"} != {None}
    assert [row["text"] is not None for row in found] == [row["verdict"] == "accepted" for row in found]
    assert "exact-duplicates" in synthesis_page(read_summary(tmp_path / "out"))


def test_nothing_accepted_is_a_result_too(tmp_path):
    seeds = write_seeds(tmp_path / "seeds.jsonl", 5)
    with serve_answers(lambda body: "no idea") as server:
        made(seeds, tmp_path / "out", server.url)
    assert verdicts(tmp_path / "out") == ["rejected: no result"] * 5
    assert "0 of 5 seeds" in synthesis_page(read_summary(tmp_path / "out"))


def test_votes_keep_the_answer_of_most_draws(tmp_path):
    (tmp_path / "seeds.jsonl").write_text('{"text": "1 + 1"}\n{"text": "2 + 2"}\n{"text": "3 + 3"}\n')
    drawn = {"1 + 1": ["3", "2", "2", " 2", "2"], "2 + 2": ["4", "5", "6", "4", "no"], "3 + 3": ["no"] * 5}

    def answer(body):
        said = drawn[last(body).removeprefix("Work out: ")][body["seed"] // 1000]
        return "no result" if said == "no" else f"draw {body['seed']} = {said}"

    with serve_answers(answer) as server:
        manifest = made(tmp_path / "seeds.jsonl", tmp_path / "out", server.url, votes=5)
    assert verdicts(tmp_path / "out") == ["accepted", "rejected: no majority among the answers", "rejected: no result"]
    first = rows(tmp_path / "out")[0]
    assert (first["answer"], first["votes"], first["response"]) == ("2", 4, "draw 1000 = 2")
    assert manifest["counts"]["answers"] == 15


def test_a_check_that_hangs_or_dies_rejects_its_sample_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(verifying, "SECONDS", 1.5)
    seeds = write_seeds(tmp_path / "seeds.jsonl", 6)
    told = {"Work out: 1 + 1": "= hang", "Work out: 4 + 16": "= exit"}
    with serve_answers(lambda body: told.get(last(body), right(body))) as server:
        made(seeds, tmp_path / "out", server.url)
    stopped = "rejected: its check had to be stopped"
    assert verdicts(tmp_path / "out") == ["accepted", stopped, "accepted", "accepted", stopped, "accepted"]


def test_a_mistake_in_a_kind_is_no_verdict(tmp_path):
    seeds = write_seeds(tmp_path / "seeds.jsonl", 3)
    with (
        serve_answers(lambda body: "= bug" if "1 + 1" in last(body) else right(body)) as server,
        pytest.raises(RuntimeError, match="a bug"),
    ):
        made(seeds, tmp_path / "out", server.url)


def test_the_key_is_nowhere_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-key")
    seeds = write_seeds(tmp_path / "seeds.jsonl", 5)
    with serve_answers(right) as server:
        made(seeds, tmp_path / "out", server.url)
        assert server.keys == {"Bearer sk-very-secret-key"}
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or b"very-secret" not in path.read_bytes()


def test_a_dry_run_counts_and_shows_the_first_question_and_asks_nothing(tmp_path):
    seeds = write_seeds(tmp_path / "seeds.jsonl", 600)
    with seeds.open("a") as file:
        file.write('{"text": ""}\n' * 600)
    out = tmp_path / "out"
    run = prepared(seeds, out, "http://127.0.0.1:9/v1", votes=3, prices=(1.0, 2.0))
    found = estimate(run, plan(run))
    assert found["seeds"] == 1200
    assert found["first_prompt"] == "Work out: 0 + 0"
    assert 500 < found["unusable_seeds"] < 700, "from a sample"
    assert found["requests"] == 3 * (1200 - found["unusable_seeds"])
    assert found["answer_tokens"] == 50 * found["requests"]
    assert 3 * found["requests"] < found["prompt_tokens"] < 8 * found["requests"]
    assert found["cost"] == pytest.approx((found["prompt_tokens"] + 2 * found["answer_tokens"]) / 1e6)
    assert not out.exists()
    with serve_answers(right) as server:
        made(seeds, out, server.url, limit=50)
    run = prepared(seeds, out, "http://127.0.0.1:9/v1")
    measured = estimate(run, plan(run))
    assert measured["basis"] == "50 seeds made here before"
    counts = read_manifest(out)["counts"]
    assert measured["answer_tokens"] == round(counts["completion_tokens"] / 50 * 1200)


def test_a_recipe_names_the_folder_and_a_build_finds_the_texts_of_accepted_samples_only(tmp_path, tokenizer_dir):
    seeds = write_seeds(tmp_path / "seeds.jsonl", 40)
    with serve_answers(lambda body: "no idea" if "3 + 9" in last(body) else right(body)) as server:
        made(seeds, tmp_path / "out", server.url)
    source = Source(**recipe_source(tmp_path / "out", "problem-solution"))
    recipe = Recipe(
        name="mine", context_length=64, subsets=(Subset(name="sums", tokens=1000, domain="math", source=source),)
    )
    (folder,) = build_phases([recipe], tmp_path / "data", tokenizer=tokenizer_dir, store=tmp_path / "store", seed=3)
    built = PackedRows(folder)
    tokenizer = Tokenizer.from_file(str(tokenizer_dir / "tokenizer.json"))
    text = " ".join(tokenizer.decode(built.rows(0, built.num_rows).input_ids.ravel().tolist()).split())
    whole = [f"{n} + {n * n} We put {n} and {n * n} together, one after the other" for n in range(40)]
    assert sum(one in text for one in whole) > 5  # others are cut by the ends of rows
    assert "3 + 9 " not in text

"""A user's own task definitions: scored as they are, and never run."""

import json

import pytest
from test_eval_command import call

from data_recipes.errors import DataError
from eval.errors import EvalError
from eval.harness.given_tasks import read_given
from eval.suites import run_suite

QUESTIONS = [{"q": f"{a} plus {b} is", "options": [str(a + b), str(a * b + 7)], "gold": 0} for a, b in ((1, 2), (3, 4))]
PLAIN = """
task: sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{q}}}}"
doc_to_choice: "{{{{options}}}}"
doc_to_target: gold
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
ATTACK = (
    "import pathlib\npathlib.Path({mark!r}).touch()\ndef run(*args, **kwargs):\n    pathlib.Path({mark!r}).touch()\n"
)


@pytest.fixture
def folder(tmp_path):
    """A folder with a definition, its data, and a program beside it that leaves a mark when it is run."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    (tmp_path / "tasks" / "evil.py").write_text(ATTACK.format(mark=str(tmp_path / "mark")))
    return tmp_path / "tasks"


def write(folder, more="", name="sums.yaml", plain=None):
    text = PLAIN.format(data=folder.parent / "data.jsonl") if plain is None else plain
    (folder / name).write_text(text + more)


def test_own_tasks_are_scored_and_recorded(folder, roomy_model, tmp_path, monkeypatch, capsys):
    write(folder)
    command = ["run", roomy_model, "--tasks-from", folder, "--suite", "sums", "--json", "--out", tmp_path / "scores"]
    assert call(monkeypatch, *command) == 0
    scores = json.loads(capsys.readouterr().out)
    (row,) = scores["rows"]
    assert (row["task"], row["measure"], row["count"], row["chance"]) == ("sums", "accuracy", 2, 0.5)
    assert str(tmp_path) not in json.dumps(scores["provenance"]["benchmarks"]["sums"]["benchmark"])
    assert call(monkeypatch, "run", roomy_model, "--tasks-from", folder, "--suite", "sms", "--dry-run") == 2
    assert "Did you mean 'sums'?" in capsys.readouterr().err


def test_included_files_are_taken_over_as_the_harness_does(folder, roomy_model):
    write(folder, name="base")
    write(folder, plain="include: base\ntask: other\nnum_fewshot: 0\n", name="other.yaml")
    scores = run_suite(roomy_model, suite="other", given=read_given(folder))
    assert scores["rows"][0]["count"] == 2


ATTACKS = {
    "function": "process_docs: !function evil.run\n",
    "function in a list": "metric_list: [{metric: !function evil.run}]\n",
    "python tag": "description: !!python/object/apply:os.system ['touch {mark}']\n",
    "class": "class: evil.Task\n",
    "custom data": "custom_dataset: evil.run\n",
    "prompt": "use_prompt: 'prompts.yaml:one'\n",
    "unsafe": "unsafe_code: true\n",
    "fetched metric": "metric_list: [{metric: someone/metric}]\n",
    "metric of evaluate": "metric_list: [{metric: acc, hf_evaluate: true}]\n",
    "remote code": "dataset_kwargs: {trust_remote_code: true}\n",
    "script": "dataset_path: evil.py\n",
    "script by name": "dataset_path: evil\n",
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("way", ["direct", "included", "included twice"])
def test_what_would_run_code_is_refused_and_not_run(folder, tmp_path, attack, way):
    line = ATTACKS[attack].format(mark=tmp_path / "mark") if "{mark}" in ATTACKS[attack] else ATTACKS[attack]
    key = line.partition(":")[0]
    text = "\n".join(x for x in PLAIN.format(data="x").splitlines() if not x.startswith(f"{key}:")) + "\n" + line
    if way == "direct":
        write(folder, plain=text)
    else:
        hidden = tmp_path / "elsewhere" / "base"
        hidden.parent.mkdir()
        hidden.write_text(text)
        (hidden.parent / "evil.py").write_text((folder / "evil.py").read_text())
        (folder / "step").write_text(f"include: {hidden}\n")
        write(folder, plain=f"include: {hidden if way == 'included' else 'step'}\ntask: sums\n")
    with pytest.raises(EvalError, match="--allow-task-code"):
        read_given(folder)
    assert not (tmp_path / "mark").exists()


def test_a_template_cannot_reach_into_python(folder, roomy_model, tmp_path):
    mark = tmp_path / "mark"
    reach = "{{ cycler.__init__.__globals__.os.system('touch " + str(mark) + "') }}"
    write(
        folder,
        more=f'doc_to_text: "{reach}"\n',
        plain=PLAIN.format(data=folder.parent / "data.jsonl").replace('doc_to_text: "{{q}}"\n', ""),
    )
    with pytest.raises(EvalError, match="unsafe"):
        run_suite(roomy_model, suite="sums", given=read_given(folder))
    assert not mark.exists()


def test_a_document_that_a_definition_does_not_fit_is_told(folder, roomy_model, monkeypatch, capsys):
    (folder.parent / "data.jsonl").write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS[:1]))
    with (folder.parent / "data.jsonl").open("a") as file:
        file.write(json.dumps({"q": None, "options": ["a", "b"], "gold": 0}) + "\n")
    write(folder, plain=PLAIN.format(data=folder.parent / "data.jsonl").replace("{{q}}", "{{q.upper()}}"))
    assert call(monkeypatch, "run", roomy_model, "--tasks-from", folder, "--suite", "sums") == 2
    assert "sums: a document of json does not fit the definition" in capsys.readouterr().err


def test_names_are_taken_once(folder):
    write(folder)
    write(folder, name="again.yaml")
    with pytest.raises(EvalError, match="'sums' is a name in another of these files"):
        read_given(folder)
    write(folder, plain="task: arc-easy\n", name="again.yaml")
    with pytest.raises(EvalError, match="'arc-easy' is a name in the published benchmarks"):
        read_given(folder)


def test_other_definitions_are_another_run(folder, roomy_model, tmp_path):
    write(folder)
    run_suite(roomy_model, suite="sums", given=read_given(folder), out=tmp_path / "scores")
    write(folder, more="description: 'Add. '\n")
    with pytest.raises(DataError, match="given: was"):
        run_suite(roomy_model, suite="sums", given=read_given(folder), out=tmp_path / "scores")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: a\nmetrc_list: []\n", "'metrc_list': unknown key. Did you mean 'metric_list'?"),
        ("task: a\ninclude: absent\n", "absent: no such file"),
        ("task: a\ninclude: a.yaml\n", "includes itself"),
        ("task: [\n", "not valid YAML"),
        ("- a\n", "expected a mapping"),
        ("task: a/b\n", "expected letters, digits"),
        ("description: nothing\n", "none of its files defines a task"),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
         "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n", "too many for a definition"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named(folder, text, message):
    write(folder, plain=text, name="a.yaml")
    with pytest.raises(ValueError, match=r"a\.yaml|none of") as caught:
        read_given(folder)
    assert message in str(caught.value)


def test_code_runs_where_the_user_allows_it(folder, roomy_model, tmp_path, monkeypatch, capsys):
    (folder / "mine.py").write_text("def ask(document):\n    return document['q'].upper()\n")
    text = PLAIN.format(data=folder.parent / "data.jsonl").replace('"{{q}}"', "!function mine.ask")
    write(folder, plain=text)
    command = ["run", roomy_model, "--tasks-from", folder, "--suite", "sums", "--out", tmp_path / "scores"]
    assert call(monkeypatch, *command) == 2
    assert "'!function' runs code" in capsys.readouterr().err
    assert call(monkeypatch, *command, "--allow-task-code") == 0
    assert "1 PLUS 2 IS" in (tmp_path / "scores" / "samples-sums.jsonl").read_text()


def test_generated_programs_are_never_run_by_the_harness_itself(folder, roomy_model):
    write(folder, more="unsafe_code: true\n")
    with pytest.raises(EvalError, match="in this process, which is not done here"):
        run_suite(roomy_model, suite="sums", given=read_given(folder, allow_code=True))

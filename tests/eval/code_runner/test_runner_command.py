"""`yulanmini eval runner`: says what the machine offers, and its exit code is what the attacks found."""

import json

import pytest

from eval.code_runner import attacks, machine, runner
from eval.code_runner.attacks import Attack
from yulanmini import cli

HARMLESS = Attack("does-nothing", "do nothing at all", "x = 1\n")
HELD = Attack("leaves", "leave before the tests", "import os; os._exit(0)\n", ("failed",))


@pytest.fixture
def only(monkeypatch):
    def set_attacks(*chosen):
        for module in (attacks, machine):
            monkeypatch.setattr(module, "ATTACKS", chosen)

    return set_attacks


def exit_code(arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.run(["eval", "runner", *arguments])
    return int(stop.value.code or 0)


@pytest.mark.skipif(not runner.usable()[0], reason="nothing isolates here")
def test_exit_0_only_when_all_is_held(only, capsys):
    only(HELD)
    assert exit_code(["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["held"] is True
    assert found["machine"]["chosen"] == found["attacks"][0]["isolation"]
    # A program that does nothing reaches its end, which is what an attack must not.
    only(HELD, HARMLESS)
    assert exit_code(["--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["held"] is False
    assert [attack["harms"] for attack in found["attacks"]] == [[], ["it reached its end"]]
    assert exit_code([]) == 1
    shown = capsys.readouterr()
    assert "NOT HELD" in shown.out
    assert "does-nothing: it reached its end" in shown.err


@pytest.mark.skipif(not runner.usable()[0], reason="nothing isolates here")
def test_all_ways_are_attacked(only, capsys):
    only(HELD)
    assert exit_code(["--isolation", "all", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [attack["isolation"] for attack in found["attacks"]] == [backend.name for backend in runner.usable()[0]]


def test_exit_1_where_nothing_isolates(only, capsys, monkeypatch):
    only(HELD)
    missing = {backend.name: "not here" for backend in machine.BACKENDS}
    monkeypatch.setattr(machine, "usable", lambda: ([], missing))
    assert exit_code([]) == 1
    shown = capsys.readouterr()
    assert "not here" in shown.out
    assert "generated programs are refused" in shown.err


def test_an_unknown_isolation_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"no isolation 'bubblewarp'.*bubblewrap"):
        cli.run(["eval", "runner", "--isolation", "bubblewarp"])

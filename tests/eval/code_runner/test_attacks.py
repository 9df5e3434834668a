"""The runner holds against every attack, in every way of isolating that works here, as this user and as another."""

import json
import os
import subprocess
import sys

import pytest

from eval.code_runner.attacks import ATTACKS, GROUPS, preamble
from eval.code_runner.backends import BACKENDS
from eval.code_runner.runner import run_isolated, usable, what_is_missing
from eval.code_runner.scene import carry_out, laid_out

# Attacks that may be let loose without isolation: they harm only what was laid out for them.
HARMLESS_ELSEWHERE = [
    *("delete", "overwrite", "truncate", "create", "rights", "symbolic-link", "climbs-out"),
    *("environment", "environment-of-caller", "home", "secret"),
    *("tcp", "udp", "unix-socket", "abstract-socket", "socket-pair"),
]


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def backend(request):
    """Each way of isolating; where one does not work here, that it says so and refuses is all there is to test."""
    missing = usable()[1].get(request.param.name)
    if missing is not None:
        assert what_is_missing(request.param)
        pytest.skip(f"{request.param.name} does not work here: {missing}")
    return request.param


def test_some_way_of_isolating_works_or_programs_are_refused():
    from eval.code_runner import run_program

    result = run_program("x = 1")
    assert result.status == ("passed" if usable()[0] else "refused")


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_held(backend, attack, tmp_path):
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_test").write_text("a key")
    finding = carry_out(attack, backend, home=tmp_path)
    assert finding.harms == (), finding.result
    assert finding.result.isolation == backend.name
    assert "a key" not in finding.result.stdout


@pytest.mark.parametrize("name", HARMLESS_ELSEWHERE)
def test_the_attack_does_harm_where_nothing_isolates(name, tmp_path):
    """Else an attack that is merely broken would count as held."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_test").write_text("a key")
    attack = next(attack for attack in ATTACKS if attack.name == name)
    with laid_out(tmp_path) as scene:
        scene.described()
        source = preamble(scene.described()) + attack.source
        done = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        result = run_isolated(usable()[0][0], "") if usable()[0] else None
        harms = list(scene.harms(_Output(done.stdout, done.stderr)))
        assert harms or "a key" in done.stdout
        assert result is None or result.status == "passed"


class _Output:
    def __init__(self, stdout, stderr):
        self.stdout, self.stderr = stdout, stderr


def test_an_ordinary_user_can_read_its_key(run_as_ordinary_user):
    """Else that no program read it would say nothing."""
    code = "import os; print(os.geteuid(), open(os.path.expanduser('~/.ssh/id_test')).read())"
    user, _, key = run_as_ordinary_user([sys.executable, "-c", code]).stdout.strip().partition(" ")
    assert user != "0"
    assert key == "a key of somebody"


QUICK_ATTACKS = """
from eval.code_runner.attacks import ATTACKS
from eval.code_runner.runner import usable
from eval.code_runner.scene import carry_out
for backend in usable()[0]:
    for attack in ATTACKS:
        if attack.name in NAMES:
            finding = carry_out(attack, backend)
            print(backend.name, attack.name, finding.harms or "held", "a key" in finding.result.stdout)
"""


@pytest.mark.parametrize(
    "names", [["fork-bomb", "output", "home"], ["kills-caller", "starves-caller", "abstract-socket"]]
)
def test_an_ordinary_user_is_as_safe_from_a_few(run_as_ordinary_user, names):
    done = run_as_ordinary_user([sys.executable, "-c", f"NAMES = {names}\n{QUICK_ATTACKS}"])
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert len(lines) == len(names) * len({line.split()[0] for line in lines})
    assert [line for line in lines if not line.endswith(" held False")] == []


@pytest.fixture(scope="module")
def as_ordinary_user(run_as_ordinary_user):
    """What `yulanmini eval runner` says to somebody who is not root."""
    done = run_as_ordinary_user(
        [sys.executable, "-m", "yulanmini.cli", "eval", "runner", "--isolation", "all", "--json"]
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", GROUPS)
def test_an_ordinary_user_is_as_safe(as_ordinary_user, name):
    code, found = as_ordinary_user
    assert not found["machine"]["user"].startswith("root")
    of_group = {attack.name for attack in GROUPS[name]}
    attacks = [attack for attack in found["attacks"] if attack["attack"] in of_group]
    working = [name for name, state in found["machine"]["backends"].items() if state == "works"]
    assert len(attacks) == len(of_group) * len(working)
    assert [attack for attack in attacks if not attack["held"]] == []
    if os.geteuid() == 0 and working:
        assert code == 0

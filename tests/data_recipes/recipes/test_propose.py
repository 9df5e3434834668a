"""The proposed next mix: what planted curves of loss, empty sources and the report's bounds make of the shares."""

import json
import math
import shutil

import pytest
import yaml
from typer.testing import CliRunner

from data_recipes.errors import DataError
from data_recipes.recipes.propose import INSTRUCTION, Rule, fill, propose
from data_recipes.recipes.recipe import DOMAINS, parse_recipe
from yulanmini.commands.data import app as data_app
from yulanmini.commands.recipe import app as recipe_app

SHARES = dict(zip(DOMAINS, (0.50, 0.08, 0.20, 0.07, 0.10, 0.05), strict=True))
PHASES = ("9", "10", "11", "12")


@pytest.fixture
def built(tmp_path):
    """A function that makes the folder of a phase with two subsets of one source in each domain."""

    def make(*arguments, **options):
        (tmp_path / "manifest.json").write_text(json.dumps(manifest(*arguments, **options)))
        return tmp_path

    return make


def manifest(shares=SHARES, *, total=1_000_000, name="phase-12", epochs=None):
    epochs = epochs or {}
    subsets, sources, entries = [], [], []
    for domain, share in shares.items():
        sources.append({"name": domain, "store": domain, "epochs": epochs.get(domain, 0.1), "location": None})
        for number, part in enumerate((0.75, 0.25)):
            tokens = round(total * share * part)
            row = {"name": f"{domain}/{number}", "domain": domain, "source": domain, "epochs": 0.1}
            subsets.append({**row, "quota_tokens": tokens})
            entries.append({**{key: row[key] for key in ("name", "domain")}, "tokens": tokens, "source": "fineweb-edu"})
    found = {"schema_version": 1, "kind": "packed-rows", "name": name, "context_length": 4096}
    found |= {"subsets": subsets, "sources": sources, "tokenizer": {"location": "tokenizer"}}
    return {**found, "consumed": dict.fromkeys(shares, 400_000), "recipe": {"subsets": entries}}


def curves(**changes):
    """Held-out records in which every domain falls by 2 % a phase, but for those named."""
    rates = {domain: changes.get(domain.replace("-", "_"), -0.02) for domain in SHARES}
    start = {"phase": "0", "bits_per_byte": 5.0}
    records = [{**start, "domain": domain} for domain in SHARES]
    for number, phase in enumerate(PHASES):
        records += [
            {"phase": phase, "domain": domain, "bits_per_byte": 2.0 * (1 + rate) ** number}
            for domain, rate in rates.items()
        ]
    return records


def shares_of(proposal):
    return {item.domain: item.share for item in proposal.domains}


def test_equal_progress_keeps_the_mix_to_the_token(built):
    proposal = propose(curves(), built())
    assert shares_of(proposal) == pytest.approx(SHARES)
    assert [subset["tokens"] for subset in proposal.recipe["subsets"]] == [
        subset["quota_tokens"] for subset in manifest()["subsets"]
    ]


def test_what_learns_more_slowly_or_forgets_gets_more_and_what_learns_faster_gets_less(built):
    shares = shares_of(propose(curves(math=0.01, code=-0.03), built()))
    assert shares["math"] > SHARES["math"]
    assert shares["code"] < SHARES["code"]
    assert sum(shares.values()) == pytest.approx(1)
    # No bound holds between these two, so the rule's formula does: 4 % a phase apart.
    assert (shares["math"] / SHARES["math"]) / (shares["code"] / SHARES["code"]) == pytest.approx(math.exp(10 * 0.04))


@pytest.mark.parametrize("rate", [0.5, -0.5])
def test_no_share_moves_by_more_than_three_per_cent_of_the_mix(built, rate):
    shares = shares_of(propose(curves(code=rate), built()))
    assert max(abs(shares[domain] - SHARES[domain]) for domain in SHARES) <= 0.03 + 1e-9
    assert abs(shares["code"] - SHARES["code"]) == pytest.approx(0.03)


def test_web_text_keeps_the_published_floor_and_instruction_data_its_limit(built):
    eager = curves(web_en=-0.3, instruction_synthetic=0.3)
    stable = shares_of(propose(eager, built()))
    assert stable["web-en"] >= 0.4866  # the least of the published stable mixes, phase 20
    assert stable[INSTRUCTION] == pytest.approx(0.05)
    annealing = shares_of(propose(eager, built(name="phase-26")))
    assert annealing["web-en"] == pytest.approx(0.47)
    assert annealing[INSTRUCTION] == pytest.approx(0.08)
    # A mix that is beyond a limit already is not pushed further, nor pulled back.
    beyond = SHARES | {"web-en": 0.40, INSTRUCTION: 0.15}
    shares = shares_of(propose(eager, built(beyond)))
    assert shares["web-en"] == pytest.approx(0.40)
    assert shares[INSTRUCTION] == pytest.approx(0.15)


def test_a_source_gives_no_more_than_its_last_epoch_has(built):
    # 400,000 tokens were 3.9 epochs: 10,256 tokens are left until the fourth is over, of 80,000 that the share asks.
    proposal = propose(curves(), built(epochs={"web-zh": 3.9}), rule=Rule(most_change=0.1))
    drawn = sum(subset["tokens"] for subset in proposal.recipe["subsets"] if subset["domain"] == "web-zh")
    assert drawn == pytest.approx(10_256, abs=2)
    zh = next(item for item in proposal.domains if item.domain == "web-zh")
    assert zh.reasons[-1] == "no more text is left within the epochs allowed"
    assert sum(subset["tokens"] for subset in proposal.recipe["subsets"]) == 1_000_000


def test_too_little_text_is_refused_with_what_to_do(built):
    spent = dict.fromkeys(SHARES, 4.0)
    with pytest.raises(DataError, match=r"too little text is left.*only 0\.0%.*--most-epochs"):
        propose(curves(), built(epochs=spent))


def test_a_domain_without_heldout_text_keeps_its_share_and_says_so(built):
    records = [record for record in curves(code=0.02) if record["domain"] != "math"]
    item = next(item for item in propose(records, built()).domains if item.domain == "math")
    assert item.reasons[0] == "no held-out text, so its share is kept"


def test_one_phase_is_too_few_to_see_a_change(built):
    with pytest.raises(DataError, match="held-out loss of 1 finished phase"):
        propose([record for record in curves() if record["phase"] in ("0", "9")], built())


def test_fill_meets_its_total_within_the_bounds():
    found = fill({"a": 1.0, "b": 1.0, "c": 2.0}, {"a": 0, "b": 0.4, "c": 0}, {"a": 1, "b": 1, "c": 0.3}, total=1.0)
    assert found == pytest.approx({"a": 0.3, "b": 0.4, "c": 0.3})


def test_the_proposal_of_a_real_run_can_be_built_beside_its_phases(smoke_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(smoke_run, run)
    out = tmp_path / "next.yaml"
    result = CliRunner().invoke(recipe_app, ["propose", str(run), "--out", str(out), "--most-epochs", "100"])
    assert result.exit_code == 0, result.output
    recipe = parse_recipe(yaml.safe_load(out.read_text()), where="next.yaml")
    command = ["build", str(out), "--out", str(tmp_path / "next")]
    result = CliRunner().invoke(data_app, command)
    assert result.exit_code == 0, result.output
    built = json.loads((tmp_path / "next" / recipe.name / "manifest.json").read_text())
    assert built["config"]["ledger_in"], "the sources continue where the last phase stopped"

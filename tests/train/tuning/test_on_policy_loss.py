"""RLOO against an oracle in plain torch: the advantages, the clip, the KL term, the loss; merged and unmerged alike."""

from pathlib import Path
from typing import Any

import pytest
import torch
from on_policy_miniature import write_on_policy_config
from test_sft_yulanmini import write_yulanmini
from transformers import AutoModelForCausalLM

from modeling_yulanmini.merge import merge
from train.config_file import load_config
from train.on_policy import OnPolicy
from train.tuning.config import OnPolicyConfig
from train.tuning.rewards.base import Reward
from train.tuning.run import new_trainer, read_inputs

PLANTED = [3.0, -100.0, 0.5, 100.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 7.0, -3.0, 2.0, 0.0, 1.0]


class Planted(Reward):
    """The same rewards in every batch, some far outside of the clip."""

    name = "planted"

    def score(self, completions):
        return PLANTED[: len(completions)]


def make_trainer(folder: Path, **changes: Any) -> Any:
    config = load_config(OnPolicyConfig, write_on_policy_config(folder, max_steps=2, **changes))
    tuning = OnPolicy(config)
    trainer, _ = new_trainer(tuning, read_inputs(tuning))
    trainer.rewards, trainer.reward_func_names = [Planted(None)], ["planted"]
    trainer.reward_weights = torch.ones(1)
    trainer.model.train()
    return trainer


def perturb(model: Any, *, seed: int = 5) -> None:
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))


def answers_of(output: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
    """Prompt and answer of each row without padding, as lists of ids."""
    return [
        (prompt[keep.bool()].tolist(), answer[mask.bool()].tolist())
        for prompt, keep, answer, mask in zip(
            output["prompt_ids"],
            output["prompt_mask"],
            output["completion_ids"],
            output["completion_mask"],
            strict=True,
        )
    ]


def log_probability(model: Any, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """Of an answer's tokens, one row by itself, from the logits."""
    logits = model(torch.tensor([prompt + answer])).logits[0].float()
    table = torch.log_softmax(logits, dim=-1)[len(prompt) - 1 : -1]
    return table[torch.arange(len(answer)), torch.tensor(answer)].sum()


@pytest.fixture(scope="module")
def stepped(tmp_path_factory) -> tuple[Any, dict[str, Any], Any, Any]:
    """A trainer whose policy has left the reference, a batch of its answers, and both models loaded by themselves."""
    folder = tmp_path_factory.mktemp("stepped")
    trainer = make_trainer(folder, kl_coefficient=0.3, reward_clip=[-20.0, 10.0])
    reference = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    perturb(trainer.model)
    trainer.model.save_pretrained(folder / "policy")
    policy = AutoModelForCausalLM.from_pretrained(folder / "policy", dtype=torch.float32)
    inputs = next(iter(trainer.get_train_dataloader()))
    return trainer, trainer._generate_and_score_completions(inputs), policy, reference


def expected_advantages(rewards: torch.Tensor, kl: torch.Tensor, *, clip: tuple[float, float] | None) -> torch.Tensor:
    """Leave-one-out over groups of four."""
    clipped = rewards if clip is None else rewards.clamp(*clip)
    total = clipped - 0.3 * kl
    found = []
    for group in total.view(-1, 4):
        for place in range(4):
            others = [group[other] for other in range(4) if other != place]
            found.append(group[place] - sum(others) / 3)
    return torch.stack(found)


def test_the_advantage_is_the_reward_less_that_of_the_others_to_the_prompt(stepped):
    _, output, policy, reference = stepped
    answers = answers_of(output)
    assert all(answers[place][0] == answers[place // 4 * 4][0] for place in range(16)), "groups of one prompt"
    with torch.no_grad():
        current = torch.stack([log_probability(policy, *pair) for pair in answers])
        before = torch.stack([log_probability(reference, *pair) for pair in answers])
    torch.testing.assert_close(output["old_logps"], current, rtol=1e-4, atol=1e-4)
    kl = current - before
    assert kl.abs().max() > 0.5
    expected = expected_advantages(torch.tensor(PLANTED), kl, clip=(-20.0, 10.0))
    torch.testing.assert_close(output["advantages"], expected, rtol=1e-4, atol=1e-3)
    unclipped = expected_advantages(torch.tensor(PLANTED), kl, clip=None)
    assert (unclipped - output["advantages"]).abs().max() > 50
    without_kl = expected_advantages(torch.tensor(PLANTED), torch.zeros(16), clip=(-20.0, 10.0))
    assert (without_kl - output["advantages"]).abs().max() > 0.05


def test_without_a_clip_the_rewards_are_taken_as_they_are(stepped, monkeypatch):
    trainer, output, _, _ = stepped
    answers = iter([answer for _, answer in answers_of(output)])
    monkeypatch.setattr(trainer, "_generate_single_turn", lambda ids, *rest: [next(answers) for _ in ids])
    monkeypatch.setattr(trainer, "reward_clip_range", None)
    again = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    torch.testing.assert_close(again["old_logps"], output["old_logps"])
    assert (again["advantages"] - output["advantages"]).abs().max() > 50


def test_the_loss_is_the_clipped_surrogate_over_whole_answers(stepped):
    trainer, output, policy, _ = stepped
    old = output["old_logps"] + torch.linspace(-0.6, 0.6, 16)  # as if the policy had moved since, past the clip of 0.2
    loss = trainer._compute_loss(trainer.model, output | {"old_logps": old})
    current = torch.stack([log_probability(policy, *pair) for pair in answers_of(output)])
    ratio, advantages = (current - old).exp(), output["advantages"]
    expected = -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert loss.item() != pytest.approx(-(ratio * advantages).mean().item(), rel=1e-2)
    trainer.model.zero_grad()
    loss.backward()
    expected.backward()
    for (name, ours), theirs in zip(trainer.model.named_parameters(), policy.parameters(), strict=True):
        torch.testing.assert_close(
            ours.grad, theirs.grad, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_the_head_of_a_cpu_gives_what_trls_gives(stepped, monkeypatch):
    trainer, output, _, _ = stepped
    assert trainer.has_answer_head
    ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
    mask = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
    kept = output["completion_mask"].bool()
    given = (trainer.model, ids, mask, output["completion_ids"].size(1))
    ours = trainer._get_per_token_logps_and_entropies(*given, batch_size=5, compute_entropy=True)
    monkeypatch.setattr(trainer, "has_answer_head", False)
    theirs = trainer._get_per_token_logps_and_entropies(*given, batch_size=5, compute_entropy=True)
    for one, other in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(one[kept], other[kept], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"lora": {"rank": 2, "alpha": 4}}], ids=["full", "lora"])
def test_the_kl_is_zero_where_the_policy_is_still_the_reference(tmp_path, changes):
    trainer = make_trainer(tmp_path, **changes)
    trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    assert trainer._metrics["train"]["kl"] == [0.0]


def test_the_unmerged_model_gives_its_answers_the_probability_that_the_merged_one_gives(tmp_path, monkeypatch):
    write_yulanmini(tmp_path / "unmerged")
    merge(tmp_path / "unmerged", tmp_path / "merged")
    tokenizer = write_on_policy_config(tmp_path).parent / "tokenizer"
    found = {}
    for name in ("unmerged", "merged"):
        trainer = make_trainer(
            tmp_path, model=str(tmp_path / name), tokenizer=str(tokenizer), output_dir=str(tmp_path / f"of-{name}")
        )
        fixed = [[20 + row + token for token in range(1 + row % 5)] for row in range(16)]
        monkeypatch.setattr(trainer, "_generate_single_turn", lambda ids, *rest, fixed=fixed: fixed)
        found[name] = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    torch.testing.assert_close(found["unmerged"]["old_logps"], found["merged"]["old_logps"], rtol=0, atol=1e-3)
    torch.testing.assert_close(found["unmerged"]["advantages"], found["merged"]["advantages"], rtol=0, atol=1e-3)
    assert found["merged"]["old_logps"].abs().min() > 1

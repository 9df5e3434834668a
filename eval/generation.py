"""Generation for many short prompts: batched, padded on the left, stopped at the end of the answer."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tqdm import tqdm
from transformers import StoppingCriteria, StoppingCriteriaList

from eval.errors import EvalError
from eval.model_loading import LoadedModel


class EmptyLine(StoppingCriteria):
    """A row is done once it has generated an empty line: what separates documents' paragraphs here."""

    def __init__(self, tokenizer: Any, prompt_length: int) -> None:
        self.tokenizer, self.prompt_length = tokenizer, prompt_length
        self.done: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        tails = self.tokenizer.batch_decode(input_ids[:, max(self.prompt_length, input_ids.shape[1] - 3) :])
        ended = torch.tensor(["\n\n" in tail for tail in tails], device=input_ids.device)
        self.done = ended if self.done is None else self.done | ended
        return self.done


def end_tokens(loaded: LoadedModel) -> list[int]:
    """Tokens that end an answer: the model's own, and the tokenizer's end of text and of turn."""
    own = loaded.model.generation_config.eos_token_id
    named = [*(own if isinstance(own, list) else [own]), loaded.tokenizer.eos_token_id]
    turn = loaded.tokenizer.convert_tokens_to_ids("<|eot_id|>")
    if turn != loaded.tokenizer.unk_token_id:
        named.append(turn)
    return sorted({token for token in named if token is not None})


def tokens_cut(loaded: LoadedModel, prompt: Sequence[int], max_new_tokens: int) -> int:
    """How many tokens at a prompt's beginning have no room in the model's context beside the answer."""
    return max(0, len(prompt) - max(1, loaded.max_length - max_new_tokens))


@torch.inference_mode()
def generate(
    loaded: LoadedModel,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int | Sequence[int],
    temperature: float = 0.0,
    seed: int = 0,
    stop_at_empty_line: bool = False,
    batch_size: int = 64,
    progress: bool = False,
) -> list[str]:
    """One continuation a prompt (token ids), without special tokens, in the order of the prompts.

    Greedy at temperature 0; else drawn from all tokens by `seed`, the same again for the same prompts and batch size.
    Prompts with the same limit and of like length go together. A prompt that leaves no room in the model's
    context keeps its last tokens (`tokens_cut` counts the others).
    """
    limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    order = sorted(range(len(prompts)), key=lambda index: (limits[index], len(prompts[index])))
    if limits and max(limits) >= loaded.max_length:
        raise EvalError(
            f"answers of up to {max(limits)} tokens: the model's context of {loaded.max_length} leaves no room for a "
            "question. Score it on the held-out text alone (--suite heldout)."
        )
    drawn = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    ends = end_tokens(loaded)
    pad = loaded.tokenizer.pad_token_id if loaded.tokenizer.pad_token_id is not None else ends[0]
    outputs = [""] * len(prompts)
    bar = tqdm(total=len(prompts), desc="generating", unit="answer", disable=not progress)
    torch.manual_seed(seed)
    at = 0
    while at < len(order):
        limit = limits[order[at]]
        rows = [index for index in order[at : at + batch_size] if limits[index] == limit]
        at += len(rows)
        kept = [prompts[index][tokens_cut(loaded, prompts[index], limit) :] for index in rows]
        width = max(map(len, kept))
        ids = torch.full((len(rows), width), pad)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for row, prompt in enumerate(kept):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        stopping = StoppingCriteriaList([EmptyLine(loaded.tokenizer, width)] if stop_at_empty_line else [])
        generated = loaded.model.generate(
            input_ids=ids.to(loaded.device),
            attention_mask=mask.to(loaded.device),
            max_new_tokens=limit,
            do_sample=bool(temperature),
            **drawn,
            eos_token_id=ends,
            pad_token_id=pad,
            stopping_criteria=stopping,
        )
        texts = loaded.tokenizer.batch_decode(generated[:, width:], skip_special_tokens=True)
        for index, text in zip(rows, texts, strict=True):
            outputs[index] = text
        bar.update(len(rows))
    bar.close()
    return outputs


def answers_to(
    loaded: LoadedModel,
    conversations: Sequence[Sequence[Mapping[str, str]]],
    *,
    samples: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = False,
) -> list[list[str]]:
    """`samples` answers to each conversation that ends with the user's turn, by the tokenizer's chat template."""
    prompts = [
        loaded.tokenizer.apply_chat_template(list(one), add_generation_prompt=True, return_dict=True)["input_ids"]
        for one in conversations
    ]
    repeated = [prompt for prompt in prompts for _ in range(samples)]
    settings = {"temperature": temperature, "seed": seed, "batch_size": batch_size, "progress": progress}
    texts = generate(loaded, repeated, max_new_tokens=max_new_tokens, **settings)
    return [texts[start : start + samples] for start in range(0, len(texts), samples)]

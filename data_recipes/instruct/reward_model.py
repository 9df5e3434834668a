"""A reward model: a sequence classifier with one output that reads a conversation and says how good its last answer is.

The published runs used Skywork-Reward-Llama-3.1-8B-v0.2 (facts.md 7), for pairs as for the on-policy stage.
"""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Literal

from data_recipes.cleaning.scorers import Encoder, LoadedEncoder, find_encoder
from data_recipes.errors import DataError


def find_reward_model(name: str, revision: str | None = None) -> Encoder:
    """A folder or a Hub id, checked without loading it; `DataError` where it is none or has several outputs."""
    encoder = find_encoder(name, revision)
    outputs = len(encoder.labels)
    if outputs != 1:
        raise DataError(f"{name}: has {outputs} outputs; a reward model has one, the reward.")
    return encoder


class RewardModel(LoadedEncoder):
    """A reward model in memory. A conversation gets the same reward whatever others it is scored with.

    Conversations longer than `max_tokens` lose their beginnings: the answer is at the end.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        max_tokens: int = 8192,
        batch_tokens: int = 16384,
        dtype: Literal["float32", "bfloat16"] = "bfloat16",
    ) -> None:
        import modeling_yulanmini  # noqa: F401  registers our architecture, which may be the reward model's

        super().__init__(encoder, max_tokens=max_tokens, batch_tokens=batch_tokens, dtype=dtype)

    def check_tokenizer(self) -> None:
        if not self.tokenizer.chat_template:
            raise DataError(f"{self.name}: its tokenizer has no chat template, so it cannot read conversations.")

    def encode(self, conversations: Sequence[Any]) -> Mapping[str, list[list[int]]]:
        """The template's own tokens and none added: it writes the one BOS that there is."""
        ids = [
            self.tokenizer.apply_chat_template(list(messages), return_dict=True)["input_ids"][-self.max_tokens :]
            for messages in conversations
        ]
        return {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}

    def rewards(self, conversations: Sequence[Sequence[Mapping[str, str]]]) -> list[float]:
        """The reward of each conversation's last answer."""
        return [float(value) for value in self.logits(conversations)[:, 0]]

    def _run(self, rows: dict[str, list[list[int]]], length: int) -> Any:
        import torch

        # A classifier reads its output at the last token that is not the padding one. Many tokenizers pad with the
        # token that ends a turn, which would be taken off the conversation: pad with one that is in none of the rows.
        used = {token for row in rows["input_ids"] for token in row}
        padding = next(token for token in count() if token not in used)
        self.model.config.get_text_config().pad_token_id = padding
        ids = [row + [padding] * (length - len(row)) for row in rows["input_ids"]]
        mask = [row + [0] * (length - len(row)) for row in rows["attention_mask"]]
        inputs = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
        with torch.inference_mode():
            output = self.model(**{key: value.to(self.device) for key, value in inputs.items()})
        return output.logits.float().cpu().numpy()

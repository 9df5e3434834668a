"""A small corpus folder, its tokenizer, and a random Llama to score."""

import pytest
import torch

from data_recipes.corpus.build import build_corpus
from data_recipes.tokens.train import train_tokenizer


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored") / "corpus"
    build_corpus(folder, seed=0, target_bytes=200_000, dialogues=20)
    return folder


@pytest.fixture(scope="session")
def tokenizer_folder(corpus):
    train_tokenizer(corpus, corpus.parent / "tokenizer", vocab_size=900)
    return corpus.parent / "tokenizer"


def tiny_llama(vocab_size, context=160):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=context,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=102,
            initializer_range=0.3,
        )
    ).eval()


@pytest.fixture(scope="session")
def model_folder(tokenizer_folder):
    """A random model saved with the tokenizer, as an export is."""
    from transformers import AutoTokenizer

    folder = tokenizer_folder.parent / "model"
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    tiny_llama(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def roomy_model(tokenizer_folder):
    """As `model_folder`, with the context that published benchmarks ask for."""
    from transformers import AutoTokenizer

    folder = tokenizer_folder.parent / "roomy"
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    tiny_llama(len(tokenizer), context=4_096).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def loaded(model_folder):
    from eval.model_loading import load_model

    return load_model(model_folder, device="cpu")

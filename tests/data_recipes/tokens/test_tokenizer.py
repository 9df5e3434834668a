"""The tokenizer: special ids, lossless text, chat template and assistant mask, compression, dropout."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from data_recipes.corpus.build import build_corpus
from data_recipes.errors import DataError
from data_recipes.tokens.bpe_dropout import DropoutEncoder
from data_recipes.tokens.tokenizer import load_tokenizer
from data_recipes.tokens.train import train_tokenizer

WORDS = "the model reads tokens and writes a long answer about numbers, words and texts in 2024 (see page 17)."
CHINESE = "模型读入文字，然后写出很长的回答。今天是星期三，天气很好，我们一起去图书馆看书。"
DIALOGUE = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Which is larger, 47 or 83?"},
    {"role": "assistant", "content": "83"},
    {"role": "user", "content": "再问一次？"},
    {"role": "assistant", "content": "还是83。"},
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("tokenizer")
    (root / "texts").mkdir()
    for index in range(12):
        (root / "texts" / f"{index}.txt").write_text(
            "\n\n".join(f"{index * 31 + line}. {WORDS[line:]} {WORDS[::-1][line:]}" for line in range(30))
        )
        (root / "texts" / f"zh{index}.md").write_text(
            "\n".join(f"第{index * 31 + line}条。{CHINESE[line + index :]}" for line in range(20)), encoding="utf-8"
        )
        (root / "texts" / f"m{index}.py").write_text(f"def f{index}(x):\n    return x + {index}\n" * 3)
    build_corpus(root / "corpus", corpus=root / "texts", target_bytes=200_000, dialogues=10)
    return root / "corpus"


@pytest.fixture(scope="module")
def folder(corpus):
    train_tokenizer(corpus, corpus.parent / "tokenizer", vocab_size=800)
    return corpus.parent / "tokenizer"


@pytest.fixture(scope="module")
def tokenizer(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_special_tokens_have_the_published_ids_and_settings(tokenizer):
    published = {
        0: "<unk>",
        1: "<s>",
        2: "</s>",
        102: "<pad>",
        103: "<reasoning_step>",
        104: "<|start_header_id|>",
        105: "<|end_header_id|>",
        106: "<|eot_id|>",
    }
    assert {index: tokenizer.convert_ids_to_tokens(index) for index in published} == published
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 102)
    assert tokenizer.padding_side == "right"
    ids = tokenizer("text").input_ids
    assert ids[0] == 1
    assert ids[-1] != 2


def test_digits_are_always_alone(tokenizer):
    assert tokenizer.tokenize("2024年17a3") == [*"2024", *tokenizer.tokenize("年"), *"17", "a", "3"]
    longer = [token for token in tokenizer.get_vocab() if any(map(str.isdigit, token)) and len(token) > 1]
    assert all(token.startswith(("<0x", "<reserved_")) for token in longer)


@settings(max_examples=300, deadline=None)
@given(text=st.text() | st.text(alphabet=" \t\n\r\u3000a1中🙂▁<0x4>é\u200b"))
def test_any_text_comes_back(folder, text):
    encoder = load_tokenizer(folder).backend
    ids = encoder.encode(text, add_special_tokens=False).ids
    assert encoder.decode(ids, skip_special_tokens=False) == text.replace("\u3000", " ")


@pytest.mark.parametrize("text", ["  two  spaces ", "a\r\n\tb\n\n\n", "<s>not a token</s><|eot_id|>", "<0x41>", "▁▁"])
def test_awkward_text_comes_back_without_special_tokens(folder, text):
    encoder = load_tokenizer(folder).backend
    ids = encoder.encode(text, add_special_tokens=False).ids
    assert min(ids) > 106
    assert encoder.decode(ids) == text


def test_saved_again_it_is_the_same_tokenizer(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = f"{WORDS} {CHINESE}"
    assert again(text).input_ids == tokenizer(text).input_ids
    assert again.chat_template == tokenizer.chat_template
    assert len(again) == len(tokenizer)


def test_chat_template_has_the_llama3_form_with_one_bos(tokenizer):
    text = tokenizer.apply_chat_template(DIALOGUE[:2], tokenize=False, add_generation_prompt=True)
    assert text == (
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWhich is larger, 47 or 83?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    ids = tokenizer.apply_chat_template(DIALOGUE, return_dict=True)["input_ids"]
    assert ids.count(1) == 1


def test_prompt_is_a_prefix_of_the_dialogue(tokenizer):
    prompt = tokenizer.apply_chat_template(DIALOGUE[:4], add_generation_prompt=True, return_dict=True)["input_ids"]
    whole = tokenizer.apply_chat_template(DIALOGUE, return_dict=True)["input_ids"]
    assert whole[: len(prompt)] == prompt


def test_assistant_mask_covers_answers_and_their_end_of_turn_only(tokenizer):
    out = tokenizer.apply_chat_template(DIALOGUE, return_dict=True, return_assistant_tokens_mask=True)
    spans, current = [], []
    for token, inside in zip([*out["input_ids"], None], [*out["assistant_masks"], 0], strict=True):
        if inside:
            current.append(token)
        elif current:
            spans.append(tokenizer.decode(current))
            current = []
    assert spans == ["83<|eot_id|>", "还是83。<|eot_id|>"]


def test_trl_trains_on_answers_and_end_of_turn_only(tokenizer, tmp_path):
    datasets, transformers, trl = (pytest.importorskip(name) for name in ("datasets", "transformers", "trl"))
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=len(tokenizer), **shape)
    trainer = trl.SFTTrainer(
        model=transformers.LlamaForCausalLM(config),
        args=trl.SFTConfig(
            output_dir=str(tmp_path),
            assistant_only_loss=True,
            max_length=256,
            use_cpu=True,
            bf16=False,
            report_to="none",
        ),
        train_dataset=datasets.Dataset.from_list([{"messages": DIALOGUE}]),
        processing_class=tokenizer,
    )
    batch = next(iter(trainer.get_train_dataloader()))
    labels = batch["labels"][0]
    assert tokenizer.decode(labels[labels != -100]) == "83<|eot_id|>还是83。<|eot_id|>"


def test_unknown_role_is_refused(tokenizer):
    with pytest.raises(Exception, match="unknown role 'narrator'"):
        tokenizer.apply_chat_template([{"role": "narrator", "content": "x"}], tokenize=False)


def test_dropout_splits_finer_only_when_asked(folder):
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert plain.model.dropout is None
    text = WORDS * 20
    backend = load_tokenizer(folder).backend
    whole = len(backend.encode(text).ids)
    dropped, _ = DropoutEncoder(backend, rate=0.5, seed=0).encode([text])
    assert len(dropped) > 1.1 * whole
    assert plain.decode(dropped.tolist()) == text


def test_same_corpus_same_tokenizer_and_counts_of_its_compression(corpus, folder, tmp_path):
    # In a process of its own: hash order must not matter.
    code = (
        "import pathlib, sys; from data_recipes.tokens.train import train_tokenizer; "
        "train_tokenizer(*map(pathlib.Path, sys.argv[1:]), vocab_size=800)"
    )
    subprocess.run([sys.executable, "-c", code, str(corpus), str(tmp_path / "again")], check=True)
    again = json.loads((tmp_path / "again" / "manifest.json").read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    assert again["fingerprint"] == manifest["fingerprint"]
    table = manifest["counts"]["bytes_per_token"]
    assert set(table) >= {"web-en", "web-zh", "code", "math", "instruction-synthetic"}
    for domain, ratio in table.items():
        lines = (corpus / "heldout" / f"{domain}.jsonl").read_text(encoding="utf-8").splitlines()
        texts = [json.loads(line)["text"] for line in lines]
        tokens = sum(len(load_tokenizer(folder).backend.encode(text, add_special_tokens=False).ids) for text in texts)
        assert ratio == pytest.approx(sum(len(text.encode()) for text in texts) / tokens, abs=1e-3)


def test_bad_requests_are_named(corpus, tmp_path):
    with pytest.raises(DataError, match="vocab_size 300"):
        train_tokenizer(corpus, tmp_path / "x", vocab_size=300)
    with pytest.raises(DataError, match="dropout 1"):
        DropoutEncoder(None, rate=1.0, seed=0)
    with pytest.raises(DataError, match="no tokenizer"):
        load_tokenizer(tmp_path)

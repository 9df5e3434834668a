"""A GGUF file holds the merged model: read back, inverted, compared; and a tokenizer that llama.cpp can follow."""

import json
from pathlib import Path

import gguf
import pytest
import torch
from model_folders import SMALL, random_tensors, write_folder, write_small
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from modeling_yulanmini import gguf_export
from modeling_yulanmini.configuration_yulanmini import CheckpointError
from modeling_yulanmini.gguf_export import export_gguf, gguf_name, interleave_halves
from modeling_yulanmini.gguf_tokenizer import llama_cpp_tokenizer, read_vocabulary
from modeling_yulanmini.merge import merge

TEXT = (
    "def area(width, height):\n    if width <= 0:\n        return None  # no such thing\n    return width * height\n\n"
    "The tide comes in twice a day; nobody (not even Canute) can stop it. It doesn't wait.\n"
    "水往低处流，人往高处走。37 * 4 = 148, and 148 - 28 = 120. 'Really?' she asked... Yes!\n"
) * 3


def read_back(path: Path) -> dict[str, torch.Tensor]:
    tensors = {}
    for tensor in gguf.GGUFReader(path).tensors:
        data = torch.from_numpy(tensor.data.copy())
        if tensor.tensor_type == gguf.GGMLQuantizationType.BF16:
            data = data.view(torch.bfloat16)
        tensors[tensor.name] = data
    return tensors


def metadata(path: Path) -> dict[str, object]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_read_back_and_inverted_it_is_the_merged_model(tmp_path, dtype):
    src = write_small(tmp_path / "src")
    merge(src, tmp_path / "llama", compare_logits=False)
    expected = load_file(tmp_path / "llama" / "model.safetensors")
    for name, source in (("unmerged", src), ("merged", tmp_path / "llama")):
        export_gguf(source, tmp_path / f"{name}.gguf", dtype=dtype)
        stored = read_back(tmp_path / f"{name}.gguf")
        assert len(stored) == len(expected)
        for parameter, value in expected.items():
            got = stored[gguf_name(parameter)]
            heads = 6 if ".q_proj." in parameter else 2 if ".k_proj." in parameter else 0
            if heads:
                assert not torch.equal(got.float(), value.to(got.dtype).float()), "rows were not re-ordered"
                got = got.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(got.shape)  # halves, as in transformers
            assert got.dtype == (getattr(torch, dtype) if value.ndim > 1 else torch.float32)
            assert torch.equal(got, value.to(got.dtype)), parameter


def test_reordered_rows_rotate_in_pairs_as_halves_did():
    """llama.cpp turns (x0, x1), (x2, x3), ...; transformers turns (x0, x[n/2]), ...: the scores must be the same."""
    heads, size, length = 3, 8, 5
    q, k = torch.randn(2, length, heads * size, dtype=torch.float64)
    angles = torch.arange(length)[:, None] * 10000.0 ** (-torch.arange(0, size, 2) / size)

    def in_halves(x):
        first, second = x.view(length, heads, 2, size // 2).unbind(2)
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

    def in_pairs(x):
        first, second = x.view(length, heads, size // 2, 2).unbind(-1)
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]
        return torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1).flatten(-2)

    expected = torch.einsum("qhd,khd->hqk", in_halves(q), in_halves(k))
    moved_q, moved_k = (interleave_halves(x.T, heads).T for x in (q, k))
    torch.testing.assert_close(torch.einsum("qhd,khd->hqk", in_pairs(moved_q), in_pairs(moved_k)), expected)


def test_transformers_reads_the_same_hyperparameters(tmp_path):
    from transformers.modeling_gguf_pytorch_utils import GGUF_CONFIG_MAPPING

    src = write_small(tmp_path / "src")
    export_gguf(src, tmp_path / "model.gguf", dtype="float32")
    keys = metadata(tmp_path / "model.gguf")
    config = {
        ours: keys[f"llama.{theirs}"]
        for theirs, ours in GGUF_CONFIG_MAPPING["llama"].items()
        if ours is not None and f"llama.{theirs}" in keys
    }
    expected = {key: SMALL[key] for key in config if key in SMALL}
    assert {key: config[key] for key in expected} == pytest.approx(expected)
    assert len(expected) >= 7


def test_qwen2_keeps_its_rows_and_its_tied_head(tmp_path):
    merge(write_small(tmp_path / "src"), tmp_path / "qwen2", target="qwen2", compare_logits=False)
    result = export_gguf(tmp_path / "qwen2", tmp_path / "model.gguf", dtype="float32")
    assert result["architecture"] == "qwen2"
    stored = read_back(tmp_path / "model.gguf")
    assert "output.weight" not in stored
    for name, value in load_file(tmp_path / "qwen2" / "model.safetensors").items():
        assert torch.equal(stored[gguf_name(name)], value), name


def yulan_like_tokenizer(folder: Path, *, size: int = 700) -> Tokenizer:
    """Byte-fallback BPE over literal spaces, cut into words, single digits, signs and spaces; BOS in front."""
    from tokenizers import Regex

    cut = pre_tokenizers.Split(
        Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), "isolated"
    )
    trainee = Tokenizer(models.BPE())
    trainee.pre_tokenizer = cut
    source = Path(json.__file__).parent.glob("*.py")
    texts = [TEXT, *(path.read_text() for path in sorted(source))]
    trainee.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=size - 260, show_progress=False))
    model = json.loads(trainee.to_str())["model"]
    names = ["<unk>", "<s>", "</s>", "<|eot_id|>", *(f"<0x{byte:02X}>" for byte in range(256))]
    names += sorted(model["vocab"], key=model["vocab"].__getitem__)
    vocabulary = {name: index for index, name in enumerate(names)}
    merges = [tuple(pair) for pair in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = cut
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(names[:4])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "bos_token": "<s>",
        "eos_token": {"content": "</s>"},
        "unk_token": "<unk>",
        "chat_template": "{{ a }}{%- generation -%}{{ b }}{% endgeneration %}",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer


def test_tokenizer_keys(tmp_path):
    src = write_small(tmp_path / "src", vocab_size=720)
    tokenizer = yulan_like_tokenizer(src)
    result = export_gguf(src, tmp_path / "model.gguf", dtype="float32")
    keys = metadata(tmp_path / "model.gguf")
    assert keys["tokenizer.ggml.model"] == "llama"
    tokens, types = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"]
    assert len(tokens) == len(types) == len(keys["tokenizer.ggml.scores"]) == 720
    kinds = gguf.TokenType
    assert types[:5] == [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, kinds.CONTROL, kinds.BYTE]
    assert tokens[tokenizer.token_to_id(" return")] == "\u2581return"
    rows = tokenizer.get_vocab_size()
    assert types[rows:] == [kinds.UNUSED] * (720 - rows)
    assert [keys[f"tokenizer.ggml.{role}_token_id"] for role in ("unknown", "bos", "eos", "eot")] == [0, 1, 2, 3]
    assert keys["tokenizer.ggml.add_bos_token"] is True
    assert keys["tokenizer.ggml.add_space_prefix"] is False
    assert keys["tokenizer.chat_template"] == "{{ a }}{{ b }}"
    assert result["tokenizer_agreement"] > 0.95


def test_scores_lead_llama_cpp_to_the_tokens_of_a_bpe_that_cuts_first(tmp_path):
    tokenizer = yulan_like_tokenizer(tmp_path)
    vocabulary = read_vocabulary(tmp_path, tokenizer.get_vocab_size())
    own = tokenizer.encode(TEXT, add_special_tokens=False).ids
    llama_cpp = llama_cpp_tokenizer(vocabulary)
    assert llama_cpp.encode(TEXT).ids == own
    assert tokenizer.decode(own) == TEXT
    unseen = "🦉 naïve \u2603"
    assert llama_cpp.encode(unseen).ids == tokenizer.encode(unseen, add_special_tokens=False).ids


def test_scores_of_a_bpe_over_whole_text_are_its_ranks(tmp_path):
    merges = [("l", "o"), ("\u2581", "lo"), ("\u2581lo", "w"), ("w", "e"), ("lo", "we")]
    names = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *"\u2581lowe", *(a + b for a, b in merges)]
    tokenizer = {
        "model": {
            "type": "BPE",
            "byte_fallback": True,
            "unk_token": "<unk>",
            "vocab": {name: index for index, name in enumerate(names)},
            "merges": [" ".join(merge) for merge in merges],
        },
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "\u2581"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
            ],
        },
        "added_tokens": [],
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    vocabulary = read_vocabulary(tmp_path, len(names))
    assert vocabulary.adds_space_prefix
    assert [vocabulary.scores[names.index(a + b)] for a, b in merges] == [0, -1, -2, -3, -4]
    assert llama_cpp_tokenizer(vocabulary).encode("low lowe").tokens == ["\u2581low", "\u2581low", "e"]


def test_without_a_tokenizer_the_file_says_so(tmp_path):
    export_gguf(write_small(tmp_path / "src"), tmp_path / "model.gguf")
    keys = metadata(tmp_path / "model.gguf")
    assert keys["tokenizer.ggml.model"] == "none"
    assert keys["llama.vocab_size"] == 131


@pytest.mark.parametrize(
    ("overrides", "message"),
    [({"qk_layernorm": True}, "qk_layernorm"), ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "dynamic")],
)
def test_what_gguf_cannot_hold_is_refused(tmp_path, overrides, message):
    with pytest.raises(CheckpointError, match=message):
        export_gguf(write_small(tmp_path / "src", **overrides), tmp_path / "model.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


def test_values_beyond_float16_are_refused_not_made_infinite(tmp_path):
    tensors = random_tensors(SMALL)
    tensors["model.embed_tokens.weight"][3, 4] = 1e5
    src = write_folder(tmp_path / "src", SMALL, tensors)
    with pytest.raises(CheckpointError, match=r"embed_tokens\.weight is beyond float16"):
        export_gguf(src, tmp_path / "model.gguf", dtype="float16")
    export_gguf(src, tmp_path / "model.gguf", dtype="bfloat16")


def test_output_bias_that_qwen2_would_drop_is_refused(tmp_path):
    merge(write_small(tmp_path / "src"), tmp_path / "qwen2", target="qwen2", compare_logits=False)
    config = json.loads((tmp_path / "qwen2" / "config.json").read_text())
    tensors = load_file(tmp_path / "qwen2" / "model.safetensors")
    tensors["model.layers.0.self_attn.o_proj.bias"] = torch.ones(48)
    src = write_folder(tmp_path / "biased", config, tensors)
    with pytest.raises(CheckpointError, match=r"o_proj\.bias is not zero"):
        export_gguf(src, tmp_path / "model.gguf")


def test_an_existing_file_and_a_failure_half_way_leave_things_as_they_were(tmp_path, monkeypatch):
    src, dst = write_small(tmp_path / "src"), tmp_path / "model.gguf"
    monkeypatch.setattr(gguf_export, "stored_values", lambda *args: (_ for _ in ()).throw(OSError(28, "No space")))
    with pytest.raises(OSError, match="No space"):
        export_gguf(src, dst)
    assert [path.name for path in tmp_path.iterdir()] == ["src"]
    dst.write_bytes(b"kept")
    with pytest.raises(CheckpointError, match="exists"):
        export_gguf(src, dst)
    assert dst.read_bytes() == b"kept"
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="is a folder; give the name of a file"):
        export_gguf(src, tmp_path / "folder")

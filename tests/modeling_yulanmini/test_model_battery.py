"""What transformers' own CausalLMModelTest covers, for this model: caches, padding, attention, checkpointing, plans."""

import copy
import re

import pytest
import torch
from small_models import randomized
from transformers import StaticCache

from modeling_yulanmini import YuLanMiniForCausalLM, YuLanMiniForSequenceClassification
from modeling_yulanmini.modeling_yulanmini import YuLanMiniDecoderLayer

CLOSE = {"atol": 2e-5, "rtol": 1e-4}


def left_padded(input_ids, pad=3):
    """The rows cut to 21, 16 and 9 tokens, padded on the left, and their mask."""
    padded, mask = input_ids.clone(), torch.ones_like(input_ids)
    for row, missing in enumerate((0, 5, 12)):
        padded[row, :missing] = pad
        mask[row, :missing] = 0
    return padded, mask


# Attention, padding, batches


def test_eager_and_sdpa_agree(make_model, input_ids):
    padded, mask = left_padded(input_ids)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    inputs = {"attention_mask": mask, "position_ids": positions}
    eager = make_model(attn_implementation="eager")(padded, **inputs).logits
    sdpa = make_model(attn_implementation="sdpa")(padded, **inputs).logits
    torch.testing.assert_close(eager[mask.bool()], sdpa[mask.bool()], **CLOSE)


def test_left_padding_changes_nothing(make_model, input_ids):
    model = make_model()
    padded, mask = left_padded(input_ids)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = model(padded, attention_mask=mask, position_ids=positions).logits
    for row in range(3):
        tokens = padded[row][mask[row].bool()]
        torch.testing.assert_close(logits[row, -len(tokens) :], model(tokens[None]).logits[0], **CLOSE)


def test_batch_is_its_rows(make_model, input_ids):
    model = make_model()
    together = model(input_ids).logits
    alone = torch.cat([model(row[None]).logits for row in input_ids])
    torch.testing.assert_close(together, alone, **CLOSE)


def test_future_tokens_are_not_seen(make_model, input_ids):
    model = make_model()
    changed = input_ids.clone()
    changed[:, 11] = (changed[:, 11] + 1) % 97
    before, after = model(input_ids).logits, model(changed).logits
    torch.testing.assert_close(before[:, :11], after[:, :11], **CLOSE)
    assert not torch.allclose(before[:, 11:], after[:, 11:], atol=1e-3)


def test_embeddings_may_be_given(make_model, input_ids):
    model = make_model()
    embeddings = model.get_input_embeddings()(input_ids)
    assert torch.equal(model(inputs_embeds=embeddings).logits, model(input_ids).logits)
    for wrong in ({}, {"input_ids": input_ids, "inputs_embeds": embeddings}):
        with pytest.raises(ValueError, match="exactly one"):
            model(**wrong)


def test_hidden_states_and_attentions_are_recorded(make_model, input_ids):
    output = make_model(attn_implementation="eager")(input_ids, output_hidden_states=True, output_attentions=True)
    assert [tuple(states.shape) for states in output.hidden_states] == [(3, 21, 32)] * 4
    assert [tuple(weights.shape) for weights in output.attentions] == [(3, 4, 21, 21)] * 3
    torch.testing.assert_close(output.attentions[0].sum(-1), torch.ones(3, 4, 21))


def test_logits_to_keep(make_model, input_ids):
    model = make_model()
    logits = model(input_ids).logits
    torch.testing.assert_close(model(input_ids, logits_to_keep=4).logits, logits[:, -4:], **CLOSE)
    chosen = torch.tensor([2, 5, 20])
    torch.testing.assert_close(model(input_ids, logits_to_keep=chosen).logits, logits[:, chosen], **CLOSE)


def test_tuple_output(make_model, input_ids):
    model = make_model()
    output = model(input_ids, labels=input_ids)
    loss, logits, *_ = model(input_ids, labels=input_ids, return_dict=False)
    assert torch.equal(loss, output.loss)
    assert torch.equal(logits, output.logits)


# Caches and generation


def test_cached_chunks_are_the_uncached_whole(make_model, input_ids):
    model = make_model()
    cache, logits = None, []
    for chunk in input_ids.split([1, 7, 1, 12], dim=1):
        output = model(chunk, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        logits.append(output.logits)
    torch.testing.assert_close(torch.cat(logits, dim=1), model(input_ids, use_cache=False).logits, **CLOSE)


def test_cached_chunks_with_left_padding(make_model, input_ids):
    model = make_model()
    padded, mask = left_padded(input_ids)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    whole = model(padded, attention_mask=mask, position_ids=positions).logits
    first = model(padded[:, :15], attention_mask=mask[:, :15], position_ids=positions[:, :15], use_cache=True)
    rest = model(
        padded[:, 15:], attention_mask=mask, position_ids=positions[:, 15:], past_key_values=first.past_key_values
    )
    torch.testing.assert_close(rest.logits, whole[:, 15:], **CLOSE)


def test_static_cache_gives_the_same_logits(make_model, input_ids):
    model = make_model()
    cache = StaticCache(config=model.config, max_cache_len=32)
    logits = [
        model(chunk, past_key_values=cache, use_cache=True).logits for chunk in input_ids.split([15, 1, 5], dim=1)
    ]
    torch.testing.assert_close(torch.cat(logits, dim=1), model(input_ids).logits, **CLOSE)


GENERATION = {"max_new_tokens": 9, "do_sample": False, "eos_token_id": None, "pad_token_id": 3}


@pytest.mark.parametrize(
    "settings", [{"use_cache": False}, {"cache_implementation": "static", "disable_compile": True}]
)
def test_generation_does_not_depend_on_the_cache(make_model, input_ids, settings):
    model = make_model()
    padded, mask = left_padded(input_ids)
    expected = model.generate(padded, attention_mask=mask, **GENERATION)
    assert torch.equal(model.generate(padded, attention_mask=mask, **GENERATION, **settings), expected)


def test_generation_of_a_padded_batch_is_that_of_its_rows(make_model, input_ids):
    model = make_model()
    padded, mask = left_padded(input_ids)
    together = model.generate(padded, attention_mask=mask, **GENERATION)
    for row in range(3):
        prompt = padded[row][mask[row].bool()][None]
        alone = model.generate(prompt, attention_mask=torch.ones_like(prompt), **GENERATION)
        assert torch.equal(together[row, -9:], alone[0, -9:])


def test_assisted_generation_gives_the_same_tokens(make_model, input_ids):
    model = make_model()
    prompt = input_ids[:1, :6]
    expected = model.generate(prompt, **GENERATION)
    assert torch.equal(model.generate(prompt, assistant_model=make_model(seed=7), **GENERATION), expected)
    assert torch.equal(model.generate(prompt, prompt_lookup_num_tokens=3, **GENERATION), expected)


def test_beams_and_samples(make_model, input_ids):
    model = make_model()
    settings = {**GENERATION, "num_return_sequences": 2}
    assert model.generate(input_ids[:, :6], **{**settings, "num_beams": 3}).shape == (6, 15)
    assert model.generate(input_ids[:, :6], **{**settings, "do_sample": True}).shape == (6, 15)


# Training


def gradients(model, input_ids):
    model.train()
    loss = model(input_ids, labels=input_ids).loss
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("step", [None, 1, 2, 56])
def test_activation_checkpointing_changes_no_gradient(make_model, input_ids, step, reentrant):
    plain = gradients(make_model(), input_ids)
    model = make_model(gradient_checkpointing_step=step)
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    for name, gradient in gradients(model, input_ids).items():
        torch.testing.assert_close(gradient, plain[name], atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("step", "recomputed"), [(None, [0, 1, 2, 3]), (1, []), (2, [1, 3]), (3, [1, 2]), (56, [1, 2, 3])]
)
def test_published_checkpointing_rule(make_model, input_ids, monkeypatch, step, recomputed):
    """Every layer is recomputed except those whose index is a multiple of the step: counted by their forwards."""
    model = make_model(num_hidden_layers=4, gradient_checkpointing_step=step).train()
    model.activation_checkpointing_enable({"use_reentrant": False})
    runs = []
    for layer in model.model.layers:
        layer.mlp.register_forward_hook(lambda *_, index=layer.layer_idx: runs.append(index))
    model(input_ids, labels=input_ids).loss.backward()
    assert sorted(runs) == sorted([0, 1, 2, 3, *recomputed])
    model.activation_checkpointing_disable()
    assert not any(layer.gradient_checkpointing for layer in model.model.layers)


def test_every_parameter_is_trained(make_model, input_ids):
    settings = {"qk_layernorm": True, "embedding_rmsln": True, "tie_word_embeddings": False}
    for name, gradient in gradients(make_model(**settings), input_ids).items():
        assert gradient.abs().max() > 0, name


def test_training_reduces_the_loss(make_model, input_ids):
    model = make_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = model(input_ids, labels=input_ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_attention_dropout_acts_in_training_only(make_model, input_ids):
    model = make_model(attention_dropout=0.5)
    assert torch.equal(model(input_ids).logits, model(input_ids).logits)
    model.train()
    assert not torch.equal(model(input_ids).logits, model(input_ids).logits)


# Weights


def test_tied_embeddings_are_one_tensor(make_model, tmp_path):
    model = make_model()
    assert model.lm_head.weight is model.model.embed_tokens.weight
    model.save_pretrained(tmp_path)
    reloaded = YuLanMiniForCausalLM.from_pretrained(tmp_path)
    assert reloaded.lm_head.weight is reloaded.model.embed_tokens.weight
    assert copy.deepcopy(reloaded).lm_head.weight is not reloaded.lm_head.weight


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("size", [120, 90])
def test_embeddings_can_be_resized(make_model, input_ids, tmp_path, tied, size):
    model = make_model(tie_word_embeddings=tied)
    tokens = input_ids % 90
    before = model(tokens).logits
    model.resize_token_embeddings(size)
    assert model.config.vocab_size == size
    after = model(tokens, labels=tokens)
    shared = min(size, 97)
    torch.testing.assert_close(after.logits[..., :shared], before[..., :shared], **CLOSE)
    assert after.logits.shape[-1] == size
    assert after.loss.isfinite()
    model.save_pretrained(tmp_path)
    assert torch.equal(YuLanMiniForCausalLM.from_pretrained(tmp_path)(tokens).logits, after.logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_half_and_close(make_model, input_ids, dtype):
    model = make_model()
    expected = model(input_ids).logits
    half = model.to(dtype)(input_ids, output_hidden_states=True)
    assert {states.dtype for states in half.hidden_states} == {dtype}
    assert half.logits.dtype == dtype
    assert (half.logits.float() - expected).abs().mean() < 0.03 * expected.abs().mean()


def test_state_dict_goes_into_a_fresh_model(make_model, input_ids):
    model, other = make_model(), make_model(seed=5)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(input_ids).logits, model(input_ids).logits)


def test_built_on_meta_and_loaded_is_the_same(make_model, input_ids, tmp_path):
    """No tensor built in __init__ may matter: from_pretrained builds on the meta device."""
    model = make_model(embedding_ln=True, qk_layernorm=True)
    model.save_pretrained(tmp_path)
    reloaded = YuLanMiniForCausalLM.from_pretrained(tmp_path)
    assert dict(reloaded.named_buffers()).keys() == dict(model.named_buffers()).keys()
    for name, buffer in reloaded.named_buffers():
        assert torch.equal(buffer, model.get_buffer(name)), name


# Plans of parallelism


@pytest.mark.parametrize("plan", ["tp_plan", "pp_plan"])
def test_plans_name_modules_that_exist(make_model, plan):
    model = make_model()
    names = [name for name, _ in model.named_modules()]
    patterns = getattr(model, plan)
    assert "lm_head" in patterns
    for pattern in patterns:
        expression = re.escape(pattern).replace(r"\*", r"\d+")
        assert any(re.fullmatch(expression, name) for name in names), pattern
    assert set(model._no_split_modules) == {YuLanMiniDecoderLayer.__name__}


def test_tensor_parallel_plan_covers_every_matrix_of_a_layer(make_model):
    model = make_model()
    linears = {name for name, module in model.model.layers[0].named_modules() if isinstance(module, torch.nn.Linear)}
    # Attention itself is named for its alphas: test_tensor_parallel.py.
    planned = {name.removeprefix("model.layers.*.") for name in model.tp_plan if "layers" in name}
    assert planned == linears | {"self_attn"}


@pytest.mark.parametrize("settings", [{}, {"embedding_ln": True}, {"tie_word_embeddings": False}])
def test_pipeline_stages_one_after_the_other_are_the_whole(make_model, input_ids, settings):
    """Stages as transformers and vLLM make them: what a stage lacks is an identity, and a later stage is handed the
    hidden states of the one before as inputs_embeds. They must not be scaled like embeddings."""
    from transformers.distributed.pipeline_parallel import PipelineIdentityLayer

    whole, first, second = (make_model(**settings) for _ in range(3))
    for index, layer in enumerate(whole.model.layers):
        absent = second if index < 1 else first
        absent.model.layers[index] = PipelineIdentityLayer()
        assert isinstance(layer, YuLanMiniDecoderLayer)
    first.model.norm = PipelineIdentityLayer()
    hidden_states = first.model(input_ids, use_cache=False).last_hidden_state
    logits = second(inputs_embeds=hidden_states, use_cache=False).logits
    torch.testing.assert_close(logits, whole(input_ids).logits, **CLOSE)


def test_no_parameter_is_a_scalar(make_model):
    """FSDP2 shards no 0-dim tensors."""
    assert all(parameter.dim() > 0 for parameter in make_model().parameters())


# Other heads and adapters


@pytest.mark.parametrize("num_labels", [1, 3])
def test_sequence_classification(make_model, input_ids, tmp_path, num_labels):
    torch.manual_seed(0)
    config = make_model().config
    config.num_labels = num_labels
    model = randomized(YuLanMiniForSequenceClassification(config)).eval()
    padded, mask = left_padded(input_ids)
    labels = torch.tensor([0.0, 1.0, 0.5]) if num_labels == 1 else torch.tensor([0, 2, 1])
    output = model(padded, attention_mask=mask, labels=labels)
    assert output.logits.shape == (3, num_labels)
    output.loss.backward()
    assert model.model.lm_head_alpha.grad is not None
    model.save_pretrained(tmp_path)
    reloaded = YuLanMiniForSequenceClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(reloaded(padded, attention_mask=mask).logits, output.logits)
    # The last token that is no padding decides, wherever the padding is.
    for row in range(3):
        tokens = padded[row][mask[row].bool()][None]
        torch.testing.assert_close(model(tokens).logits[0], output.logits[row], **CLOSE)


def test_lora_on_all_linears_merges(make_model, input_ids):
    """LoRA adds to what a projection gives, before its alpha: merged into the weight it is the same function."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    model = peft.get_peft_model(make_model(), peft.LoraConfig(target_modules="all-linear", r=4, lora_alpha=8))
    adapted = {name.split(".")[-1] for name, m in model.named_modules() if isinstance(m, peft.tuners.lora.Linear)}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    plain = model(input_ids).logits
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(3):
        loss = model(input_ids, labels=input_ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    adapted_logits = model(input_ids).logits
    assert not torch.allclose(adapted_logits, plain, atol=0.1)
    torch.testing.assert_close(model.merge_and_unload()(input_ids).logits, adapted_logits, atol=1e-4, rtol=1e-3)


def test_lora_on_the_head_is_in_the_loss(make_model, input_ids):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.LoraConfig(target_modules=["lm_head"], r=4, init_lora_weights=False)
    model = peft.get_peft_model(make_model(tie_word_embeddings=False, z_loss=0.0), config)
    output = model(input_ids, labels=input_ids)
    expected = torch.nn.functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), input_ids[:, 1:].flatten())
    torch.testing.assert_close(output.loss, expected)
    output.loss.backward()
    assert any("lora" in name and p.grad.abs().max() > 0 for name, p in model.named_parameters() if p.requires_grad)


def test_transformers_trainer_trains_evaluates_and_resumes(make_model, tmp_path):
    """Its evaluation reads labels, loss and logits off the class; its resuming reads the saved file by itself."""
    from transformers import Trainer, TrainingArguments

    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(4, 97, (16,), generator=generator) for _ in range(16)]
    data = [{"input_ids": row, "labels": row} for row in rows]

    def train(model, steps, resume=None):
        arguments = TrainingArguments(
            str(tmp_path),
            max_steps=steps,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            save_steps=2,
            learning_rate=1e-2,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
        )
        trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=data[:4])
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    model = make_model()
    trainer = train(model, 4)
    assert trainer.evaluate()["eval_loss"] > 0
    assert trainer.predict(data[:4]).predictions.shape == (4, 16, 97)
    resumed = make_model(seed=9)
    train(resumed, 4, resume=str(tmp_path / "checkpoint-2"))
    for (name, ours), theirs in zip(resumed.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)


# torch.export and torch.compile


def test_exports(make_model, input_ids):
    model = make_model()
    program = torch.export.export(model, (), {"input_ids": input_ids, "use_cache": False}, strict=False)
    exported = program.module()(input_ids=input_ids, use_cache=False).logits
    torch.testing.assert_close(exported, model(input_ids).logits, **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_training_step_compiles_whole_and_once(make_model, packed):
    """One graph without breaks, and no recompilation when only contents change: batches, cuts, weights."""
    torch._dynamo.reset()
    generator = torch.Generator().manual_seed(0)
    model, eager = make_model().train(), make_model().train()
    compiled = torch.compile(model, fullgraph=True)
    counter = torch._dynamo.utils.counters
    counter.clear()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for step in range(3):
        tokens = torch.randint(4, 97, (2, 24), generator=generator)
        inputs = {"num_items_in_batch": torch.tensor(40 + step)}
        if packed:
            cut = 5 + 4 * step
            inputs["position_ids"] = torch.cat((torch.arange(cut), torch.arange(24 - cut))).expand(2, -1).contiguous()
        eager.load_state_dict(model.state_dict())
        expected = eager(tokens, labels=tokens, **inputs).loss
        loss = compiled(tokens, labels=tokens, **inputs).loss
        torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert counter["stats"]["unique_graphs"] == 1
    assert not counter["graph_break"]


@pytest.mark.slow
def test_decoding_with_a_static_cache_compiles_once(make_model, input_ids):
    torch._dynamo.reset()
    model = make_model()
    expected = model(input_ids).logits
    cache = StaticCache(config=model.config, max_cache_len=32)
    logits = [model(input_ids[:, :12], past_key_values=cache, use_cache=True).logits]
    compiled = torch.compile(model, fullgraph=True)
    torch._dynamo.utils.counters.clear()
    with torch.no_grad():
        for position in range(12, 21):
            token = input_ids[:, position : position + 1]
            logits.append(
                compiled(token, past_key_values=cache, use_cache=True, position_ids=torch.tensor([[position]])).logits
            )
    torch.testing.assert_close(torch.cat(logits, dim=1), expected, **CLOSE)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_rotary_module_keeps_the_contract_of_transformers(make_model, input_ids):
    """cos and sin of shape (batch, seq_len, head_dim), halves repeated, sin as it is: kernels and backends use both."""
    model = make_model()
    positions = torch.arange(21).expand(3, -1)
    hidden_states = model.model.embed_tokens(input_ids)
    cos, sin = model.model.rotary_emb(hidden_states, positions)
    angles = positions[..., None] / 10000.0 ** (torch.arange(0, 8, 2) / 8)
    torch.testing.assert_close(cos, torch.cat((angles, angles), -1).cos())
    torch.testing.assert_close(sin, torch.cat((angles, angles), -1).sin())

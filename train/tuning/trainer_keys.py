"""Which fields of TRL's configs `trainer:` may set: those that have an effect in the stage at hand, and no others.

A field that a path would take and ignore, or that would break what a run promises (exact resume, a batch of
`batch_size` rows), is refused with the key to use instead or the reason. Every field of today's TRL is in one of the
tables: a test holds that, so a new one is looked at before it can be set.
"""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any

from data_recipes.errors import nearest

# What has its own key, by that key.
OWN_KEYS = {
    "output_dir": ("output_dir", "resume_from_checkpoint"),
    "seed": ("seed", "data_seed"),
    "max_length": ("max_length",),
    "packing": ("packing", "packing_strategy", "padding_free", "eval_packing"),
    "over_long": ("truncation_mode",),
    "dialogues": ("dataset_kwargs", "dataset_text_field", "shuffle_dataset"),
    "model": ("model_init_kwargs", "trust_remote_code"),
    "tokenizer": ("chat_template_path", "eos_token", "pad_token", "assistant_only_loss", "completion_only_loss"),
    "workers": ("dataset_num_proc",),
    "batch_size": (
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "auto_find_batch_size",
        "dataloader_drop_last",
    ),
    "epochs and max_steps": ("num_train_epochs", "max_steps"),
    "optimizer": ("learning_rate", "adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay", "max_grad_norm"),
    "optimizer.warmup_ratio and min_lr_ratio": ("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"),
    "precision": ("bf16", "fp16", "use_cpu", "bf16_full_eval", "fp16_full_eval"),
    "recomputation": ("gradient_checkpointing", "activation_checkpointing"),
    "checkpoint": ("save_strategy", "save_steps", "save_total_limit", "save_only_model", "save_on_each_node"),
    "evaluation": (
        "eval_strategy",
        "eval_steps",
        "eval_delay",
        "eval_on_start",
        "do_eval",
        "per_device_eval_batch_size",
    ),
    "monitors": (
        "report_to",
        "run_name",
        "project",
        "trackio_space_id",
        "trackio_bucket_id",
        "trackio_static_space_id",
    ),
    "beta (dpo) and kl_coefficient (on-policy)": ("beta",),
    "samples": ("num_generations", "num_generations_eval"),
    "generation_batch": ("generation_batch_size", "steps_per_generation"),
    "max_completion_length": ("max_completion_length",),
    "temperature": ("temperature",),
    "rewards and reward_clip": ("reward_weights", "reward_clip_range"),
    "server": (
        "use_vllm",
        "vllm_mode",
        "vllm_model_impl",
        "vllm_enable_sleep_mode",
        "vllm_structured_outputs_regex",
        "vllm_server_base_url",
        "vllm_server_host",
        "vllm_server_port",
        "vllm_server_timeout",
        "vllm_group_port",
        "vllm_gpu_memory_utilization",
        "vllm_max_model_length",
        "vllm_tensor_parallel_size",
    ),
    "reference": ("precompute_ref_log_probs",),
}
# What no key decides, by the reason.
REFUSED = {
    "the order of the rows is fixed before the first step": (
        "train_sampling_strategy",
        "length_column_name",
        "dataloader_in_order",
    ),
    "a step is one line of metrics.jsonl": (
        "logging_strategy",
        "logging_steps",
        "logging_first_step",
        "logging_nan_inf_filter",
        "log_on_each_node",
        "disable_tqdm",
        "include_num_input_tokens_seen",
        "skip_memory_metrics",
    ),
    "the loss is over the trained tokens of the whole step": ("average_tokens_across_devices",),
    "a resumed run ends with the weights of one that was not stopped": (
        "ignore_data_skip",
        "restore_callback_states_from_checkpoint",
        "enable_jit_checkpoint",
        "load_best_model_at_end",
        "metric_for_best_model",
        "greater_is_better",
    ),
    "ranks and sharding are accelerate's answers (--accelerate-config)": (
        "fsdp",
        "fsdp_config",
        "deepspeed",
        "accelerator_config",
        "parallelism_config",
        "local_rank",
        "ddp_backend",
    ),
    "TRL's rows have the columns that its collator needs": ("remove_unused_columns", "label_names"),
    "nothing here reads what it would give": (
        "prediction_loss_only",
        "eval_do_concat_batches",
        "eval_use_gather_object",
        "eval_accumulation_steps",
        "include_for_metrics",
        "batch_eval_metrics",
        "do_train",
        "do_predict",
        "use_cache",
    ),
    "what is learned from must be what the model says by itself, with the probabilities that it gives": (
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "generation_kwargs",
        "chat_template_kwargs",
    ),
    "a step is one update on answers of its own, so that no ratio of probabilities leaves 1": (
        "num_iterations",
        "epsilon",
        "epsilon_high",
    ),
    "another way of generating was not tried here": (
        "use_transformers_continuous_batching",
        "use_transformers_paged",
        "transformers_continuous_batching_config",
        "ds3_gather_for_generation",
    ),
    "answers are not printed": (
        "log_completions",
        "log_multimodal",
        "log_unique_prompts",
        "num_completions_to_print",
    ),
    "it is for mixtures of experts": ("router_aux_loss_coef",),
    "it is for optimizers that replace AdamW": ("optim_target_modules",),
    "it is off: `yulanmini hub publish` publishes": (
        "push_to_hub",
        "hub_token",
        "hub_private_repo",
        "hub_model_id",
        "hub_strategy",
        "hub_always_push",
        "hub_revision",
    ),
}
# What Transformers' Trainer does in every stage.
COMMON = (
    "optim",
    "optim_args",
    "tf32",
    "activation_checkpointing_kwargs",
    "gradient_checkpointing_kwargs",
    "activation_offloading",
    "torch_compile",
    "torch_compile_backend",
    "torch_compile_mode",
    "torch_empty_cache_steps",
    "use_liger_kernel",
    "liger_kernel_config",
    "neftune_noise_alpha",
    "full_determinism",
    "log_level",
    "log_level_replica",
    "dataloader_num_workers",
    "dataloader_pin_memory",
    "dataloader_persistent_workers",
    "dataloader_prefetch_factor",
    "dataloader_multiprocessing_context",
    "ddp_find_unused_parameters",
    "ddp_bucket_cap_mb",
    "ddp_broadcast_buffers",
    "ddp_static_graph",
    "ddp_timeout",
    "pad_to_multiple_of",
    "debug",
)
PASSED_ON = {
    "sft": (*COMMON, "loss_type", "label_smoothing_factor"),
    "dpo": (
        *COMMON,
        "disable_dropout",
        "precompute_ref_batch_size",
        "loss_type",
        "loss_weights",
        "ld_alpha",
        "f_divergence_type",
        "f_alpha_divergence_coef",
        "label_smoothing",
        "use_weighting",
        "discopop_tau",
        "sync_ref_model",
        "ref_model_mixup_alpha",
        "ref_model_sync_steps",
    ),
    "on-policy": (
        *(name for name in COMMON if name not in ("neftune_noise_alpha", "activation_offloading")),
        "normalize_advantages",
        "mask_truncated_completions",
        "cache_implementation",
    ),
}
# What a stage would take and ignore, or what does not go with it.
IGNORED = {
    "sft": (),
    "dpo": ("label_smoothing_factor",),
    "on-policy": (
        "label_smoothing_factor",
        "disable_dropout",  # always off
        "neftune_noise_alpha",  # the model that answers is the one that is trained
        "sync_ref_model",  # a resumed run would have another reference
        "ref_model_mixup_alpha",
        "ref_model_sync_steps",
    ),
}


def check_trainer_keys(trainer: Mapping[str, Any], *, script: str, trl_config: str) -> None:
    """ValueError for a key of `trainer` that TRL does not know, or that would not do what it says."""
    passed_on = PASSED_ON[script]
    for name in trainer:
        if name not in trl_fields(trl_config):
            raise ValueError(f"trainer.{name} is no field of TRL's {trl_config}.{nearest(name, passed_on)}")
        if name not in passed_on:
            raise ValueError(f"trainer.{name} {_why_not(name)}")


def check_dpo_keys(trainer: Mapping[str, Any], losses: set[str]) -> None:
    """ValueError for a key of DPO that acts only with another one, which is not there (read in TRL's DPOTrainer)."""
    alpha = trainer.get("f_divergence_type") == "alpha_divergence"
    acts = {
        "label_smoothing": (bool(losses & {"robust", "exo_pair"}), "loss_type robust or exo_pair"),
        "discopop_tau": ("discopop" in losses, "loss_type discopop"),
        "f_alpha_divergence_coef": (alpha, "f_divergence_type alpha_divergence"),
        "ref_model_mixup_alpha": (bool(trainer.get("sync_ref_model")), "sync_ref_model"),
        "ref_model_sync_steps": (bool(trainer.get("sync_ref_model")), "sync_ref_model"),
    }
    for name, (has_effect, needed) in acts.items():
        if name in trainer and not has_effect:
            raise ValueError(f"trainer.{name} has an effect only with trainer.{needed}; add that or take it out.")


def _why_not(name: str) -> str:
    for key, names in OWN_KEYS.items():
        if name in names:
            return f"is set by this config's own keys ({key}); use those"
    for reason, names in REFUSED.items():
        if name in names:
            return f"cannot be set: {reason}"
    return "has no place in this stage; take it out"


@cache
def trl_fields(name: str) -> set[str]:
    """Names that a config of TRL's takes today."""
    import trl

    return {field.name for field in fields(getattr(trl, name)) if field.init}

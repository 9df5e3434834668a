"""What `accelerate config` or the options of `accelerate launch` ask for: each answer is honoured or refused.

accelerate hands its answers to a script as environment variables. `honoured` puts those that the run file can say too
(precision, recomputation, compile, resharding) into the config, and refuses what this trainer does not do and what
contradicts the run file. How processes are started (machines, addresses, GPUs) is accelerate's own part.
"""

import os
from typing import Any

from accelerate.utils import FullyShardedDataParallelPlugin, ParallelismConfig

from train.config import PretrainConfig, RecomputationSettings
from train.errors import TrainError

PRECISIONS = {"bf16": "bfloat16", "fp8": "fp8"}

# Variables that ask for another engine, and what to do instead.
OTHER_ENGINES = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed: this trainer shards with FSDP2 (distributed_type FSDP, fsdp_version 2), "
    "whose reshard_after_forward is ZeRO-3 when true and ZeRO-2 when false",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM: the model is not written for it; use FSDP (fsdp_version 2)",
    "ACCELERATE_USE_SAGEMAKER": "SageMaker: not supported; use compute_environment LOCAL_MACHINE on each node",
    "ACCELERATE_DOWNCAST_BF16": "downcast_bf16: is for TPUs; use mixed_precision bf16",
    "XLA_DOWNCAST_BF16": "downcast_bf16: is for TPUs; use mixed_precision bf16",
}
_OTHER_FSDP = {
    "FSDP_OFFLOAD_PARAMS": "fsdp_offload_params: spikes are judged and updates left out on the device, where the "
    "optimizer's state has to be. To save memory: recomputation, fewer micro_batch_rows, or more ranks",
    "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD": "fsdp_activation_checkpointing_offload: activations stay on the device; "
    "use fsdp_activation_checkpointing alone, or fewer micro_batch_rows",
    "FSDP_FORWARD_PREFETCH": "fsdp_forward_prefetch: FSDP2 has none",
    "FSDP_IGNORED_MODULES": "fsdp_ignored_modules: all parameters are sharded; leave it out",
}
_OTHER_DIMENSIONS = {
    "TP_SIZE": "tensor parallelism: the model fits one GPU, so heads need not be shared out",
    "CP_SIZE": "context parallelism: accelerate takes the attention mask away and makes attention plainly causal, so "
    "the documents packed into a row would see each other. For long rows: recomputation full and micro_batch_rows 1",
    "SP_SIZE": "sequence parallelism: needs DeepSpeed. For long rows: recomputation full and micro_batch_rows 1",
}


def honoured(config: PretrainConfig) -> PretrainConfig:
    """`config` with accelerate's answers put in; TrainError for one that is refused, or that contradicts the config."""
    for variable, sentence in OTHER_ENGINES.items():
        if is_given(variable):
            raise refused(sentence)
    _check_dimensions()
    changes = _precision(config) | _compile(config)
    if is_given("ACCELERATE_USE_FSDP"):
        _check_fsdp()
        changes |= _resharding(config) | _recomputation(config)
    return config.model_copy(update=changes) if changes else config


def fsdp_plugin(config: PretrainConfig) -> FullyShardedDataParallelPlugin:
    """accelerate's plugin for FSDP2, every field given: one that is left out would be read from the environment.

    Parameters stay float32 (the master weights) and are cast for compute; gradients are reduced in float32. Outputs
    keep the compute dtype: the loss is taken in float32 by the model. Layers are recomputed by
    train/model_setup/recomputation.py, which leaves parameter names as they are and can spare some layers. Rank 0 alone
    reads weights in any case (train/model_setup/build.py).
    """
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy

    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        reshard_after_forward=config.reshard_after_forward,
        auto_wrap_policy=os.environ.get("FSDP_AUTO_WRAP_POLICY", "TRANSFORMER_BASED_WRAP"),
        mixed_precision_policy=MixedPrecisionPolicy(
            param_dtype=None if config.precision == "float32" else torch.bfloat16,
            reduce_dtype=torch.float32,
            cast_forward_inputs=False,
        ),
        cpu_offload=False,
        backward_prefetch="NO_PREFETCH",
        state_dict_type="SHARDED_STATE_DICT",
        activation_checkpointing=False,
        activation_checkpointing_offload=False,
        cpu_ram_efficient_loading=False,
    )


def parallelism(ranks: int) -> ParallelismConfig:
    """The mesh: accelerate's answer; else sharded within a node and replicated across nodes (HSDP)."""
    if is_given("ACCELERATE_USE_PARALLELISM_CONFIG"):
        replicate, shard = _dimension("DP_REPLICATE_SIZE"), _dimension("DP_SHARD_SIZE")
        if replicate * shard != ranks or (shard == 1 and ranks > 1):
            raise refused(
                f"parallelism_config: dp_replicate_size {replicate} x dp_shard_size {shard} on {ranks} ranks; their "
                "product is to be the number of ranks, and something has to be sharded. Usually dp_shard_size is the "
                "GPUs of a node and dp_replicate_size the nodes; without a parallelism_config that is what you get"
            )
        return ParallelismConfig(dp_replicate_size=replicate, dp_shard_size=shard)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", ranks))
    nodes = ranks // local if 1 < local < ranks and ranks % local == 0 else 1
    return ParallelismConfig(dp_replicate_size=nodes, dp_shard_size=ranks // nodes)


def _check_fsdp() -> None:
    version = os.environ.get("FSDP_VERSION", "1")
    if version != "2":
        raise refused(f"fsdp_version {version}: this trainer needs version 2; answer 2, or pass --fsdp_version 2")
    for variable, sentence in _OTHER_FSDP.items():
        if is_given(variable):
            raise refused(sentence)
    if os.environ.get("FSDP_AUTO_WRAP_POLICY", "").upper() == "SIZE_BASED_WRAP":
        raise refused(
            "fsdp_auto_wrap_policy SIZE_BASED_WRAP: it would part the embedding from the head that is tied to it; "
            "use TRANSFORMER_BASED_WRAP"
        )
    if (kind := os.environ.get("FSDP_STATE_DICT_TYPE", "SHARDED_STATE_DICT")) != "SHARDED_STATE_DICT":
        raise refused(
            f"fsdp_state_dict_type {kind}: checkpoints are sharded, and each phase's model is exported whole beside "
            "them; use SHARDED_STATE_DICT"
        )


def _check_dimensions() -> None:
    for name, sentence in _OTHER_DIMENSIONS.items():
        if is_given("ACCELERATE_USE_PARALLELISM_CONFIG") and (size := _dimension(name)) > 1:
            raise refused(f"parallelism_config {name.lower()} {size}: {sentence}")
    steps = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if steps not in ("1", "auto"):
        raise refused(
            f"gradient_accumulation_steps {steps}: it follows from tokens_per_step, micro_batch_rows and the number "
            "of ranks; set micro_batch_rows in the run file"
        )


def _precision(config: PretrainConfig) -> dict[str, Any]:
    """`no` is what accelerate passes where nothing was asked for, so it leaves the choice to the run file."""
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if asked == "no":
        return {}
    if asked not in PRECISIONS:
        raise refused(f"mixed_precision {asked}: its range is too small for unscaled gradients; use bf16, or no")
    if asked == "fp8" and (backend := os.environ.get("ACCELERATE_FP8_BACKEND", "AO").upper()) not in ("AO", "NO"):
        raise refused(f"fp8 backend {backend}: only torchao's (AO) is supported")
    return _agreed(config, "precision", PRECISIONS[asked], said=f"mixed_precision {asked}")


def _compile(config: PretrainConfig) -> dict[str, Any]:
    backend = os.environ.get("ACCELERATE_DYNAMO_BACKEND", "NO").upper()
    if backend == "NO":
        return {}
    mode = os.environ.get("ACCELERATE_DYNAMO_MODE", "default")
    if backend != "INDUCTOR" or mode != "default" or is_given("ACCELERATE_DYNAMO_USE_DYNAMIC"):
        raise refused(
            f"dynamo backend {backend.lower()}, mode {mode}: each layer is compiled by inductor for its fixed shape "
            "(compile: true); leave mode, dynamic and other backends out"
        )
    if is_given("ACCELERATE_DYNAMO_USE_FULLGRAPH"):
        raise refused("dynamo_use_fullgraph: the layers are compiled one by one, as regional compilation does")
    return _agreed(config, "compile", True, said="dynamo_backend inductor")


def _resharding(config: PretrainConfig) -> dict[str, Any]:
    asked = os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower()
    if asked not in ("true", "false"):
        raise refused(f"fsdp_reshard_after_forward {asked}: FSDP2 takes true or false")
    return _agreed(config, "reshard_after_forward", asked == "true", said=f"fsdp_reshard_after_forward {asked}")


def _recomputation(config: PretrainConfig) -> dict[str, Any]:
    """Activation checkpointing is recomputation of every layer, in all stages."""
    if not is_given("FSDP_ACTIVATION_CHECKPOINTING"):
        return {}
    said = "fsdp_activation_checkpointing true"
    for stage in config.stages:
        if stage.recomputation is not None and stage.recomputation.mode != "full":
            raise _conflict(said, "stages.recomputation.mode", stage.recomputation.mode, "full")
    if "recomputation" in config.model_fields_set and config.recomputation.mode != "full":
        raise _conflict(said, "recomputation.mode", config.recomputation.mode, "full")
    return {"recomputation": RecomputationSettings(mode="full")}


def _agreed(config: PretrainConfig, key: str, asked: Any, *, said: str) -> dict[str, Any]:
    """{key: asked} where the run file leaves it open or says the same."""
    own = getattr(config, key)
    if key in config.model_fields_set and own != asked:
        raise _conflict(said, key, own, asked)
    return {key: asked}


def _conflict(said: str, key: str, own: Any, asked: Any) -> TrainError:
    own, asked = (str(value).lower() for value in (own, asked))
    return TrainError(
        f"accelerate: {said}, but the run file has {key}: {own}. To follow accelerate take it out of the run file or "
        f"make it {asked}; else change accelerate's answer."
    )


def _dimension(name: str) -> int:
    return int(os.environ.get(f"PARALLELISM_CONFIG_{name}", "1"))


def is_given(variable: str) -> bool:
    """Whether accelerate has set the variable to something other than no."""
    return os.environ.get(variable, "").lower() not in ("", "0", "no", "false", "none")


def refused(sentence: str) -> TrainError:
    return TrainError(f"accelerate: {sentence}.")

"""Makes `deepspeed_universal.tar.gz`: what DeepSpeed itself writes after three steps of a tiny YuLan-Mini on CPU.

    python tests/data/make_deepspeed_universal.py tests/data/deepspeed_universal.tar.gz

Needs `deepspeed` (made with 0.19.8), which the tests do not. `expected.json` in it holds the model's shape, the input
and the losses of the three steps that follow in DeepSpeed.
"""

import json
import os
import sys
import tarfile
import tempfile
from pathlib import Path

os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29611", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
os.environ |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}

import deepspeed
import torch
from deepspeed.checkpoint import ds_to_universal

from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from train.config import OptimizerSettings
from train.model_setup.parameter_groups import parameter_groups

SHAPE = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 32,
    "initializer_range": 0.02,
}
BASE_WIDTH = 8


def make(archive: Path) -> None:
    """Train, save, convert, go on training, pack."""
    torch.manual_seed(0)
    model = YuLanMiniForCausalLM(YuLanMiniConfig.reparametrized(base_width=BASE_WIDTH, **SHAPE))
    groups = parameter_groups(
        model,
        lr_factor=lambda name: BASE_WIDTH / SHAPE["hidden_size"] if "proj.weight" in name else 1.0,
        settings=OptimizerSettings(weight_decay_on="matrices"),
    )
    for group in groups:
        group["lr"] = 0.01 * group["lr_factor"]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-15)
    # Shared memory between ranks: compiled when first used, and there is one rank.
    sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None
    deepspeed.init_distributed(dist_backend="gloo")
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer,
        config={
            "train_micro_batch_size_per_gpu": 4,
            "zero_optimization": {"stage": 1},
            "zero_allow_untested_optimizer": True,
            "gradient_clipping": 0.0,
        },
    )
    ids = torch.randint(SHAPE["vocab_size"], (4, 16), generator=torch.Generator().manual_seed(0))

    def step() -> float:
        loss = engine(ids, labels=ids).loss
        engine.backward(loss)
        engine.step()
        return loss.item()

    for _ in range(3):
        step()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine.save_checkpoint(folder, tag="global_step3")
        universal = folder / "global_step3_universal"
        sys.argv = ["ds_to_universal", "--input_folder", str(folder / "global_step3")]
        sys.argv += ["--output_folder", str(universal), "--num_extract_workers", "1", "--num_merge_workers", "1"]
        sys.argv += ["--inject_missing_state"]  # else it takes only checkpoints with Megatron's notes in them
        ds_to_universal.main(ds_to_universal.parse_arguments())
        expected = {"shape": SHAPE, "base_width": BASE_WIDTH, "input_ids": ids.tolist()}
        expected |= {"losses": [step() for _ in range(3)], "deepspeed": deepspeed.__version__}
        (folder / "expected.json").write_text(json.dumps(expected))
        with tarfile.open(archive, "w:gz") as tar:
            for path in (universal, folder / "expected.json"):
                tar.add(path, arcname=path.name, filter=anonymous)


def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without owner and time, which say nothing about the content."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    make(Path(sys.argv[1]))

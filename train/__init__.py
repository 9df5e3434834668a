"""Training: pretraining and annealing (`pretrain.py`), SFT (`sft.py`), preference tuning (`dpo.py`)."""

"""Training: pretraining and annealing (`pretrain.py`), instruction tuning (`sft.py`), preference tuning (`dpo.py`)."""

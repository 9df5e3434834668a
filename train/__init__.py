"""Training: pretraining and annealing (`pretrain.py`), SFT (`sft.py`)."""

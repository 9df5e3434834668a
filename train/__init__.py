"""Training: pretraining and annealing (`pretrain.py`), SFT, DPO and the on-policy stage (`sft.py`, `dpo.py`, ...)."""

import logging

# PEFT imports it wherever it is installed, and on some CPUs it then warns of a kernel that nothing here asks for.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

"""What this room raises when its input is at fault: the message is all that a user sees."""

# Defined in the config's file, because that file is copied beside the weights and has to stand alone there.
from modeling_yulanmini.configuration_yulanmini import CheckpointError

__all__ = ["CheckpointError"]

"""A Hub in this process, on the loopback interface, that the real clients of huggingface_hub and datasets talk to."""

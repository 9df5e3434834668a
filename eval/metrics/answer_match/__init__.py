"""Share of responses whose answer is the expected one."""

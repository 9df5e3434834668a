"""Documents to ids: the tokenizer, the encoders, and the token store that every build shares."""

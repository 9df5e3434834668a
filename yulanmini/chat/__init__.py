"""Talking to a model in the terminal: `conversation.py` asks the model, `session.py` is the terminal's side."""

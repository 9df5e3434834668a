"""The filters of dialogues, as steps of the cleaning pipeline: each module defines one, found by its name."""

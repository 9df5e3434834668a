"""What is measured while a model trains, one small class each."""

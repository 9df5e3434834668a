"""TriviaQA without its documents."""

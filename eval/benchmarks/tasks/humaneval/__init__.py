"""HumanEval and HumanEval+, run by our code runner."""

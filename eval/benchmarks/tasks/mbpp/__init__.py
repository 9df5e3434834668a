"""MBPP and MBPP+, run by our code runner."""

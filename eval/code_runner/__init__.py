"""Runs programs that a model wrote, isolated from this machine, or refuses to: docs/code-runner.md."""

from eval.code_runner.runner import ProgramResult, run_program, run_programs

__all__ = ["ProgramResult", "run_program", "run_programs"]

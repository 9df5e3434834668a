"""MATH and MATH-500, judged in a process that can be stopped."""

"""The worked examples of the MATH-500 prompt: Minerva's four (Lewkowycz et al., 2022), as lm-eval ships them."""

from typing import Any


def worked() -> list[dict[str, Any]]:
    """Four problems with a `solution` that ends in "The final answer is $...$. I hope it is correct."."""
    from lm_eval.tasks.minerva_math.utils import list_fewshot_samples

    return list_fewshot_samples()

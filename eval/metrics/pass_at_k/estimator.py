"""The unbiased estimator of pass@k of Chen et al. 2021 (arXiv 2107.03374, section 2.1), by itself."""

from math import comb


def pass_at_k(samples, correct, k):
    """The chance that at least one of k of the samples is correct, drawn without replacement: 1 - C(n-c, k) / C(n, k).

    In whole numbers and one division, which Python rounds once: exact to the last digit for any n.
    """
    if not 0 <= correct <= samples:
        raise ValueError(f"{correct} of {samples} samples correct: expected a number from 0 to {samples}")
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs at least {k} samples of each problem, and k of 1 or more; found {samples}")
    draws = comb(samples, k)
    return (draws - comb(samples - correct, k)) / draws

"""Shares in whole numbers: token quotas become rows, and the tokens of a smaller mix are shared out.

Rounding is by largest remainder, first across the domains, then inside each, so that at a very small scale
the shares of the domains hold even where most subsets have less than a row.
"""

from collections.abc import Sequence


def row_quotas(tokens: Sequence[int], domains: Sequence[str | None], context_length: int) -> list[int]:
    """Rows of `context_length` tokens for each subset; their sum is the rounded total of `tokens`.

    Both a subset's and a domain's rows are its exact quota rounded down or up, never further away.
    """
    total = round(sum(tokens) / context_length)
    groups: dict[str | None, list[int]] = {}
    for index, domain in enumerate(domains):
        groups.setdefault(domain, []).append(index)
    group_tokens = [sum(tokens[index] for index in members) for members in groups.values()]
    rows = [0] * len(tokens)
    for members, group_rows in zip(groups.values(), _rounded(group_tokens, context_length, total), strict=True):
        shares = _rounded([tokens[index] for index in members], context_length, group_rows)
        for index, share in zip(members, shares, strict=True):
            rows[index] = share
    return rows


def proportional_shares(weights: Sequence[int], total: int) -> list[int]:
    """Whole shares of `total` in proportion to `weights`, each at least 1, adding up exactly.

    `total` must be at least the number of weights, and every weight above 0.
    """
    shares = _rounded([weight * total for weight in weights], sum(weights), total)
    # The few that got nothing take one each from the largest.
    for index, share in enumerate(shares):
        if share == 0:
            shares[max(range(len(shares)), key=lambda other: shares[other])] -= 1
            shares[index] = 1
    return shares


def _rounded(amounts: Sequence[int], unit: int, total: int) -> list[int]:
    """Floors of `amounts / unit`, the largest remainders raised by one until they add up to `total`."""
    floors = [amount // unit for amount in amounts]
    by_remainder = sorted(range(len(amounts)), key=lambda index: (-(amounts[index] % unit), index))
    for index in by_remainder[: total - sum(floors)]:
        floors[index] += 1
    return floors

"""Token quotas become whole rows: every domain and every subset within one row of its share.

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
    for members, group_rows in zip(groups.values(), _round_up_to(group_tokens, context_length, total), strict=True):
        shares = _round_up_to([tokens[index] for index in members], context_length, group_rows)
        for index, share in zip(members, shares, strict=True):
            rows[index] = share
    return rows


def _round_up_to(tokens: Sequence[int], context_length: int, total: int) -> list[int]:
    """Floors of `tokens / context_length`, the largest remainders raised by one until they add up to `total`."""
    rows = [count // context_length for count in tokens]
    by_remainder = sorted(range(len(tokens)), key=lambda index: (-(tokens[index] % context_length), index))
    for index in by_remainder[: total - sum(rows)]:
        rows[index] += 1
    return rows

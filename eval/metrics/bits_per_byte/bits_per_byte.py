"""Bits per byte: a language model's loss on text, comparable between tokenizers."""

import math

import datasets
import evaluate

_DESCRIPTION = """
Bits per byte: the negative log-likelihood of texts under a language model in bits, divided by the number of their
UTF-8 bytes. Unlike loss or perplexity a token, it compares models with different tokenizers. Lower is better; uniformly
random bytes cost 8.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of float): for each document the negative log-likelihood of all its tokens, summed, in nats.
    references (list of str, or list of int): the documents themselves, or the numbers of their UTF-8 bytes. Only what
        was predicted counts: without a start token, a document's first token and its bytes are left out of both.
Returns:
    bits_per_byte: over all documents together, so that a long one counts for more.
    nats, bytes: the two sums.
Examples:
    >>> metric = evaluate.load("eval/metrics/bits_per_byte")
    >>> metric.compute(predictions=[5.545177444479562], references=["abcd"])["bits_per_byte"]
    2.0
"""


class BitsPerByte(evaluate.Metric):
    def _info(self):
        number = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_KWARGS_DESCRIPTION,
            # Text first: a document of digits would also do as a number.
            features=[
                datasets.Features({"predictions": number, "references": datasets.Value("string")}),
                datasets.Features({"predictions": number, "references": datasets.Value("int64")}),
            ],
        )

    def _compute(self, predictions, references):
        nats = math.fsum(predictions)
        size = sum(len(text.encode()) if isinstance(text, str) else text for text in references)
        if not math.isfinite(nats):
            raise ValueError(f"the summed log-likelihood is {nats}; the model's logits were not finite")
        if size <= 0 or min(0 if isinstance(text, str) else text for text in references) < 0:
            raise ValueError(f"expected texts of more than 0 bytes, found {size}")
        return {"bits_per_byte": nats / math.log(2) / size, "nats": nats, "bytes": size}

"""A model that answers what a test planted, asked by the harness as any other, and its scores."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

DATA = Path(__file__).resolve().parents[2] / "data"
FIXTURES = DATA / "benchmarks"


@pytest.fixture(scope="session")
def items():
    """The module with the items of the fixtures."""
    sys.path.insert(0, str(DATA))
    import items_generate

    return items_generate


@pytest.fixture(scope="session")
def word_tokenizer(tmp_path_factory):
    """A tokenizer of the words of generated haystacks, with a chat template."""
    import random

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from eval.benchmarks.tasks.ruler.words import sentence

    rng = random.Random(0)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([sentence(rng) for _ in range(2000)], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.chat_template = (
        "{% for m in messages %}<{{m.role}}>{{m.content}}</{{m.role}}>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    return fast


@pytest.fixture(scope="session")
def answered(word_tokenizer):
    """answered(benchmark, answer, **settings) scores `answer(prompt, document, sample)` for every question.

    Gives the `rows`, the `log` with a record a question, and what was `asked`. The answers are cut at the stops of the
    task, as a model's are.
    """
    from lm_eval.api.model import LM
    from lm_eval.models.utils import postprocess_generated_text

    from eval.harness.benchmark import all_benchmarks
    from eval.harness.scoring import BenchmarkTask

    class Answers(LM):
        def __init__(self, answer):
            super().__init__()
            self.answer, self.tokenizer, self.max_length = answer, word_tokenizer, 2**20
            self.cut, self.unfinished, self.rows_used, self.start_text, self.name = {}, set(), {1}, "", "planted"
            self.asked = []

        @property
        def tokenizer_name(self):
            return "planted"

        def apply_chat_template(self, history, add_generation_prompt=True):
            return self.tokenizer.apply_chat_template(
                history, add_generation_prompt=add_generation_prompt, tokenize=False
            )

        def generate_until(self, requests, disable_tqdm=False):
            answers, samples = [], {}
            for request in requests:
                samples[id(request)] = samples.get(id(request), -1) + 1
                prompt, settings = request.args
                self.asked.append((prompt, settings, request.doc))
                text = self.answer(prompt, request.doc, samples[id(request)])
                answers.append(postprocess_generated_text(text, settings["until"], None))
            return answers

        def loglikelihood(self, requests, disable_tqdm=False):
            raise NotImplementedError

        def loglikelihood_rolling(self, requests, disable_tqdm=False):
            raise NotImplementedError

    def run(name, answer, *, data=FIXTURES, change=None, **settings):
        benchmark = all_benchmarks()[name].model_copy(update=change or {})
        task = BenchmarkTask(label=name, benchmark=benchmark, **settings)
        model = Answers(answer)
        result = task.score_with(model, data)
        return SimpleNamespace(rows=result.rows, log=result.log, asked=model.asked)

    return run


@pytest.fixture(scope="session")
def score_of(answered):
    """The value of the whole, by the first measure of a benchmark."""

    def score(name, answer, **settings):
        return answered(name, answer, **settings).rows[0]["value"]

    return score

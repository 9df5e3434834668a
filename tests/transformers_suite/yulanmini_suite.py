"""This model under transformers' own tests. Not collected by pytest on its own: see `run_suite.py`."""

import unittest

import tests.test_tensor_parallel_mixin as tensor_parallel
import torch
from tests.test_configuration_common import ConfigTester
from tests.test_modeling_common import GenerationTesterMixin, ModelTesterMixin, ids_tensor
from tests.test_tensor_parallel_mixin import TensorParallelTesterMixin
from tests.test_training_mixin import TrainingTesterMixin
from transformers.models.auto import modeling_auto

from modeling_yulanmini import (
    YuLanMiniConfig,
    YuLanMiniForCausalLM,
    YuLanMiniForSequenceClassification,
    YuLanMiniModel,
)

# What the mixins look a class up in by its name, to know which labels it takes.
modeling_auto.MODEL_MAPPING_NAMES["yulanmini"] = "YuLanMiniModel"
modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES["yulanmini"] = "YuLanMiniForCausalLM"
modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES["yulanmini"] = "YuLanMiniForSequenceClassification"
# The processes of the tensor-parallel tests are started for the models named here only.
tensor_parallel.TP_DISTRIBUTED_TEST_MODEL_TYPES.add("yulanmini")


class YuLanMiniTester:
    """Makes the configs and inputs that the mixins ask for: small, with every scale in play."""

    base_model_class = YuLanMiniModel
    causal_lm_class = YuLanMiniForCausalLM
    sequence_classification_class = YuLanMiniForSequenceClassification
    batch_size, seq_length, is_training = 3, 7, True
    vocab_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size = 99, 32, 2, 4, 48
    num_key_value_heads = 2

    def __init__(self, parent: unittest.TestCase):
        self.parent = parent

    def get_config(self) -> YuLanMiniConfig:
        return YuLanMiniConfig.reparametrized(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_key_value_heads,
            intermediate_size=self.intermediate_size,
            max_position_embeddings=512,
            pad_token_id=0,
            initializer_range=0.02,
            tie_word_embeddings=False,
        )

    def prepare_config_and_inputs_for_common(self) -> tuple[YuLanMiniConfig, dict[str, torch.Tensor]]:
        input_ids = ids_tensor([self.batch_size, self.seq_length], self.vocab_size)
        return self.get_config(), {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids).tril()}


class YuLanMiniModelTest(
    ModelTesterMixin, GenerationTesterMixin, TrainingTesterMixin, TensorParallelTesterMixin, unittest.TestCase
):
    all_model_classes = (YuLanMiniModel, YuLanMiniForCausalLM, YuLanMiniForSequenceClassification)
    model_tester: YuLanMiniTester

    def setUp(self) -> None:
        self.model_tester = YuLanMiniTester(self)

    def test_config(self) -> None:
        ConfigTester(self, config_class=YuLanMiniConfig, hidden_size=60).run_common_tests()

    def test_reverse_loading_mapping(self) -> None:
        """In the base model the one tensor that is renamed, `lm_head_alpha`, has its name in the file."""
        super().test_reverse_loading_mapping(skip_base_model=True)

"""Held-out text and answers, against sums done by hand."""

from flax import nnx
import jax
import numpy as np
import pytest

from data_pipelines.sequences.rows import PackedBatch
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.tokenization.text import train_text_tokenizer
from data_pipelines.tokenization.vocabulary import Vocabulary
from gato_jax.acting.inputs import lay_out
from gato_jax.config import model_config
from gato_jax.evaluation.language import exact_match, majority_accuracy, text_loss, unigram_prices
from gato_jax.model.gato import Gato

TEXTS = ['the quick brown fox jumps over the lazy dog', 'né à Paris: 7 €', 'a']
KNOWN = ['the lazy dog', 'the fox']


@pytest.fixture(scope='module')
def tokenizer():
  text = train_text_tokenizer(TEXTS * 30, 300)
  return SequenceTokenizer(Vocabulary(text_size=310, bins=16, discrete_size=16), text)


def test_answers_are_compared_to_the_letter_but_for_outer_space():
  assert exact_match([' red', 'blue', 'Yes'], ['red', 'red', 'yes']) == pytest.approx(1 / 3)


def test_majority_is_the_commonest_training_answer():
  assert majority_accuracy(['no', 'yes', 'no', 'red'], ['no', 'yes', 'red', 'no']) == 0.5
  assert majority_accuracy(['yes', 'yes', 'no'], ['no', 'no', 'no', 'no']) == 0.0


def test_unigram_prices_by_hand():
  # Counts 3, 1, 0 and one each: 4, 2, 1 of 7.
  np.testing.assert_allclose(unigram_prices(np.array([0, 1, 0, 0]), 3), np.log([7 / 4, 7 / 2, 7]))


@pytest.mark.parametrize('sequence_length', [64, 8])
def test_text_loss_by_hand(tokenizer, sequence_length):
  config = model_config()
  config.update(layers=1, width=32, heads=2, head_size=16, feed_forward=32, patch_channels=32, dtype='float32')
  model = Gato(config, tokenizer.vocabulary, rngs=nnx.Rngs(0))
  text = tokenizer.text_tokenizer

  @jax.jit
  def log_probabilities(batch):
    return jax.nn.log_softmax(model.logits(model(batch)), axis=-1)

  counts = np.ones(text.size)
  for known in KNOWN:
    np.add.at(counts, text.encode(known, end=True), 1)
  prices = -np.log(counts / counts.sum())
  nats = unigram = 0.0
  for written in TEXTS:
    ids = text.encode(written, end=True)
    unigram += prices[ids].sum()
    nats += prices[ids[0]]
    for start in range(0, len(ids) - 1, sequence_length - 1):
      part = ids[start : start + sequence_length]
      inputs = lay_out([tokenizer.document(written)], [0], 128, 0)
      tokens = np.zeros((1, 128), np.int32)
      tokens[0, : len(part)] = part
      segments = (np.arange(128) < len(part)).astype(np.int32)[None]
      positions = np.arange(128, dtype=np.int32)[None]
      local = np.full((1, 128), inputs.local_positions[0, 0])
      batch = PackedBatch(tokens, tokens, tokens.astype(np.float32), segments, positions, local, tokens, *inputs[4:])
      found = np.asarray(log_probabilities(batch))[0]
      nats -= sum(found[i, part[i + 1]] for i in range(len(part) - 1))
  size = sum(len(written.encode()) for written in TEXTS)
  np.testing.assert_allclose(
      text_loss(model, tokenizer, sequence_length, TEXTS, KNOWN), (nats / size, unigram / size), rtol=1e-5)

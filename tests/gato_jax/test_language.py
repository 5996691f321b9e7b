"""Held-out text and answers, against sums done by hand."""

import json

from flax import nnx
import jax
import numpy as np
from PIL import Image
import pytest

from data_pipelines.datasets.catalogue import Request
from data_pipelines.sequences.rows import PackedBatch
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.tokenization.text import train_text_tokenizer
from data_pipelines.tokenization.vocabulary import Vocabulary
from gato_jax.acting.inputs import lay_out
from gato_jax.config import default_config, mixture_entry, model_config
from gato_jax.evaluation.captions import cider
from gato_jax.evaluation.language import (
    Example,
    caption_cider,
    majority_accuracy,
    score_language,
    share_right,
    text_loss,
    unigram_prices,
)
from gato_jax.model.gato import Gato
from gato_jax.training.restore import Trained
from tests.data_pipelines.dataset_cases import build

TEXTS = ['the quick brown fox jumps over the lazy dog', 'né à Paris: 7 €', 'a']
KNOWN = ['the lazy dog', 'the fox']


@pytest.fixture(scope='module')
def tokenizer():
  text = train_text_tokenizer(TEXTS * 30, 300)
  return SequenceTokenizer(Vocabulary(text_size=310, bins=16, discrete_size=16), text)


def test_answers_are_compared_to_the_letter_but_for_outer_space():
  examples = [Example(None, '', wanted, given) for wanted, given in (('red', ' red'), ('red', 'blue'), ('yes', 'Yes'))]
  assert share_right(examples) == pytest.approx(1 / 3)


def test_captions_of_one_picture_are_its_references_together():
  pictures = [np.zeros((2, 2, 3), np.uint8), np.ones((2, 2, 3), np.uint8)]
  examples = [Example(pictures[0], '', wanted, 'a dog on the grass') for wanted in ('a dog on the grass', 'some dog')]
  examples.append(Example(pictures[1], '', 'two cats in a box', 'two cats in a box'))
  wanted = [['a dog on the grass', 'some dog'], ['two cats in a box']]
  assert caption_cider(examples) == cider(wanted, ['a dog on the grass', 'two cats in a box']) > 5


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
      inputs = lay_out([tokenizer.document(written)], 128, 0)
      tokens = np.zeros((1, 128), np.int32)
      tokens[0, : len(part)] = part
      segments = (np.arange(128) < len(part)).astype(np.int32)[None]
      positions = np.arange(128, dtype=np.int32)[None]
      local = np.full((1, 128), inputs.local_positions[0, 0])
      batch = PackedBatch(tokens, tokens, tokens.astype(np.float32), segments, positions, local, tokens, *inputs[3:])
      found = np.asarray(log_probabilities(batch))[0]
      nats -= sum(found[i, part[i + 1]] for i in range(len(part) - 1))
  size = sum(len(written.encode()) for written in TEXTS)
  np.testing.assert_allclose(
      text_loss(model, tokenizer, sequence_length, TEXTS, KNOWN), (nats / size, unigram / size), rtol=1e-5)


def write_pictures(folder, count):
  """Pictures with captions beside them, and with questions; gives the answers."""
  folder.mkdir()
  answers = ['no' if i % 3 else 'yes' for i in range(count)]
  rng = np.random.default_rng(0)
  lines = []
  for i, answer in enumerate(answers):
    Image.fromarray(rng.integers(256, size=(16, 32, 3), dtype=np.uint8)).save(folder / f'{i}.png')
    (folder / f'{i}.txt').write_text(f'picture {i}')
    lines.append(json.dumps({'image': f'{i}.png', 'question': f'is it {i}?', 'answer': answer}))
  (folder / 'questions.jsonl').write_text('\n'.join(lines))


def test_pictures_of_the_users_own_are_asked_about(tmp_path, tokenizer):
  write_pictures(tmp_path / 'own', 120)
  config = default_config()
  with config.unlocked():
    for name in ('captions_folder', 'vqa_folder'):
      config.data.mixture[name] = mixture_entry(1.0, path=str(tmp_path / 'own'), picture_size=32)
  config.data.dir = str(tmp_path)
  config.data.sequence_length = 48  # less than the longest answer that is ever written and a question together
  config.model.update(layers=1, width=32, heads=2, head_size=16, feed_forward=32, patch_channels=32, dtype='float32')
  sources = [build(Request(name, path=str(tmp_path / 'own'), picture_size=32), tmp_path)
             for name in ('captions_folder', 'vqa_folder')]
  heldout = [sources[1][1][i].answer for i in range(len(sources[1][1]))]
  assert heldout and len(sources[0][1]) == len(heldout)
  trained = Trained(Gato(config.model, tokenizer.vocabulary, rngs=nnx.Rngs(0)), tokenizer, config, 0)
  scores = score_language(trained, config)
  assert (scores.vqa_accuracy, scores.caption_accuracy, scores.nats_per_byte) == (0.0, 0.0, None)
  assert scores.caption_cider is not None
  assert scores.vqa_majority == heldout.count('no') / len(heldout)

"""A tiny run for the tests of training: no simulators, batches made up from (seed, step)."""

import functools

import numpy as np

from data_pipelines.sequences.rows import PackedBatch
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.tokenization.text import train_text_tokenizer
from data_pipelines.tokenization.vocabulary import Vocabulary
from gato_jax.config import default_config

VOCABULARY = Vocabulary(text_size=300, bins=16, discrete_size=8)
LENGTH, SLOTS, SOURCES = 24, 4, ('suite/first', 'suite/second', 'words')


def tiny_run_config(**training):
  """A whole config; keyword arguments change its `training` section."""
  config = default_config()
  config.data.update(sequence_length=LENGTH, patches_per_row=SLOTS)
  config.data.vocabulary.update(text_size=300, bins=16, discrete_size=8)
  config.model.update(
      layers=2, width=32, heads=4, head_size=8, feed_forward=64, patch_channels=32, vocabulary_multiple=8,
      dtype='float32', attention='reference')
  config.training.update(steps=6, batch_size=8, log_every=1, checkpoint_every=2)
  config.training.update(training)
  config.training.schedule.update(warmup_steps=2, peak=1e-2)
  return config


def small_config(folder, mixture, **data):
  """Two steps of a small model on a real mixture, whose data lie in the folder; keyword arguments change `data`."""
  config = default_config()
  with config.unlocked():
    config.data.mixture = mixture
  config.data.update(dir=str(folder / 'data'), **data)
  config.data.vocabulary.text_size = 1024
  config.model.update(layers=1, width=32, heads=2, head_size=16, feed_forward=32, patch_channels=32)
  config.training.update(steps=2, batch_size=2, log_every=1, checkpoint_every=2)
  return config


@functools.cache
def tiny_tokenizer(text='to and fro, round and round'):
  return SequenceTokenizer(VOCABULARY, train_text_tokenizer([text] * 9, 300))


def made_up_batch(seed, rows=8):
  """Two segments and some padding a row, a picture patch in the first, targets on a third of the positions."""
  rng = np.random.default_rng(seed)
  shape = (rows, LENGTH)
  cuts = rng.integers(6, 18, (rows, 1))
  places = np.broadcast_to(np.arange(LENGTH), shape)
  segment_ids = np.where(places < cuts, 1, 2) * (places < LENGTH - 2)
  tokens = rng.integers(0, VOCABULARY.separator_id, shape).astype(np.int32)
  patch_positions = np.full((rows, SLOTS), LENGTH, np.int32)
  patch_positions[:, 0] = 1
  tokens[:, 1] = VOCABULARY.patch_id
  low = rng.integers(0, 100, (rows, SLOTS, 2, 1))
  return PackedBatch(
      tokens=tokens,
      targets=np.roll(tokens, -1, axis=1),
      loss_weights=((rng.random(shape) < 0.33) & (segment_ids > 0) & (places > 1)).astype(np.float32),
      segment_ids=segment_ids.astype(np.int32),
      positions=np.where(places < cuts, places, places - cuts).astype(np.int32),
      local_positions=rng.integers(0, 512, shape).astype(np.int32),
      sources=np.broadcast_to(rng.integers(0, len(SOURCES), (rows, 1)), shape).astype(np.int16),
      patches=rng.integers(0, 256, (rows, SLOTS, 16, 16, 3)).astype(np.uint8),
      patch_positions=patch_positions,
      patch_intervals=np.concatenate([low, low + 25], axis=-1).astype(np.uint8))


class MadeUpLoader:
  """Batch i is a function of i; each is told apart by its own seed, and `change` may spoil it.

  With `local_rows`, one host's rows of it.
  """

  source_names = SOURCES

  def __init__(self, rows=8, local_rows=slice(None), change=lambda index, batch: batch):
    self.index, self._rows, self._local_rows, self._change = 0, rows, local_rows, change

  def __iter__(self):
    return self

  def __next__(self):
    self.index += 1
    batch = made_up_batch(self.index, self._rows)
    local_rows = self._local_rows if isinstance(self._local_rows, slice) else list(self._local_rows)
    return self._change(self.index, PackedBatch(*(array[local_rows] for array in batch)))

  def get_state(self):
    return self.index

  def set_state(self, state):
    self.index = state

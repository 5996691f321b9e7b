"""Text after text, captions of pictures, answers to questions about them."""

from collections.abc import Sequence
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.sequences.tokens import DOCUMENT_POSITION, Tokens
from gato_jax.acting.decoding import Engine, row_keys, single_token
from gato_jax.acting.inputs import LENGTH_MULTIPLE, lay_out, round_up
from gato_jax.acting.sampling import sample


class Sampling(NamedTuple):
  """How text is drawn; fixed at compile time. The defaults are greedy.

  Attributes:
    max_tokens: an answer is cut off after so many tokens if its end token has not come.
    temperature: 0 is greedy.
    top_k: only the k most likely tokens; 0: all.
    top_p: only the most likely tokens that hold this probability together.
  """

  max_tokens: int = 32
  temperature: float = 0.0
  top_k: int = 0
  top_p: float = 1.0


class Generator:
  """Batched generation with a KV cache. Only text tokens are drawn; an answer ends before its end token."""

  def __init__(
      self, engine: Engine, tokenizer: SequenceTokenizer, *, sequence_length: int, batch_size: int, sampling: Sampling
  ):
    """Compiles nothing yet.

    Args:
      engine: of the model.
      tokenizer: the one the model was trained with.
      sequence_length: L, of training; what is read and written together may not be longer.
      batch_size: how many are generated at once; more are taken in turns.
      sampling: how tokens are drawn.
    """
    self._state = engine.state
    self._tokenizer = tokenizer
    self._length = sequence_length
    self._batch_size = batch_size
    self._sampling = sampling
    text = tokenizer.text_tokenizer
    self._compiled = jax.jit(functools.partial(_generate, engine.restore, sampling, text.size, text.end_id))

  def caption(self, images: Sequence[np.ndarray], seed: int = 0) -> list[str]:
    """Captions of uint8 [height, width, 3] pictures."""
    return self._run([self._tokenizer.caption(image) for image in images], seed)

  def answer(self, images: Sequence[np.ndarray], questions: Sequence[str], seed: int = 0) -> list[str]:
    """Answers to one question a picture."""
    pairs = zip(images, questions, strict=True)
    return self._run([self._tokenizer.question(image, question) for image, question in pairs], seed)

  def complete(self, texts: Sequence[str], seed: int = 0) -> list[str]:
    """What the model would have the texts go on with."""
    if not all(texts):
      raise InputError('an empty text cannot be completed; give it a first word')
    return self._run([self._tokenizer.document(text, end=False) for text in texts], seed)

  def _run(self, runs: Sequence[Tokens], seed: int) -> list[str]:
    if not runs:
      return []
    longest = max(len(run) for run in runs)
    if longest + self._sampling.max_tokens > self._length:
      raise InputError(f'{longest} tokens to read and {self._sampling.max_tokens} to write are more than '
                       f'data.sequence_length={self._length}; shorten the text or write fewer')
    length, patches = round_up(longest, LENGTH_MULTIPLE), max(len(run.patches) for run in runs)
    texts = []
    for first in range(0, len(runs), self._batch_size):
      batch = list(runs[first : first + self._batch_size])
      rows = batch + batch[:1] * (self._batch_size - len(batch))
      inputs = lay_out(rows, length, patches)
      seeds = np.arange(first, first + len(rows), dtype=np.uint32) + np.uint32(seed)
      ids_BxM, lengths_B = self._compiled(self._state, inputs, row_keys(seeds))
      answers = zip(np.asarray(ids_BxM), np.asarray(lengths_B), strict=True)
      texts += [self._tokenizer.text_tokenizer.decode(ids[:n]) for ids, n in list(answers)[: len(batch)]]
    return texts


def _generate(restore, sampling: Sampling, text_size, end_id, state, inputs, keys_B):
  """Reads the inputs, then writes until every row has ended or `max_tokens` are written.

  Returns:
    int32 [B, max_tokens] ids and int32 [B], how many of them come before the end token.
  """
  decoder = restore(state)
  rows, length = inputs.tokens.shape
  x_BxSxD, cache = decoder.extend(inputs, decoder.init_cache(rows, length + sampling.max_tokens))
  x_BxD = jnp.take_along_axis(x_BxSxD, cache.lengths[:, None, None] - 1, axis=1)[:, 0]

  def unfinished(carry):
    step, _, lengths_B, _, _ = carry
    return (step < sampling.max_tokens) & jnp.any(lengths_B == step)

  def write(carry):
    step, ids_BxM, lengths_B, x_BxD, cache = carry
    step_keys_B = jax.vmap(jax.random.fold_in, (0, None))(keys_B, step)
    ids_B = sample(
        decoder.logits(x_BxD, 0, text_size), step_keys_B, temperature=sampling.temperature, top_k=sampling.top_k,
        top_p=sampling.top_p)
    lengths_B += (lengths_B == step) & (ids_B != end_id)
    x_Bx1xD, cache = decoder.extend(single_token(ids_B, DOCUMENT_POSITION), cache)
    return step + 1, ids_BxM.at[:, step].set(ids_B), lengths_B, x_Bx1xD[:, 0], cache

  start = 0, jnp.zeros((rows, sampling.max_tokens), jnp.int32), jnp.zeros(rows, jnp.int32), x_BxD, cache
  _, ids_BxM, lengths_B, _, _ = jax.lax.while_loop(unfinished, write, start)
  return ids_BxM, lengths_B

"""Text after text, captions of pictures, answers to questions about them."""

from collections.abc import Iterator, Sequence
import dataclasses
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
from gato_jax.model.cache import Cache

_PIECE = 4  # tokens that a stream writes at a time
_HALF_CHARACTER = '\ufffd'  # what bytes that are no character are decoded to


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How text is drawn; fixed at compile time. The defaults are greedy. Raises InputError where a setting has no sense.

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

  def __post_init__(self):
    for name, fits, rule in (
        ('max_tokens', self.max_tokens > 0, 'positive'), ('temperature', self.temperature >= 0, '0 or positive'),
        ('top_k', self.top_k >= 0, '0 or positive'), ('top_p', 0 < self.top_p <= 1, 'in (0, 1]')):
      if not fits:
        raise InputError(f'{name} is {getattr(self, name)}: must be {rule}')


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
    self._read = jax.jit(functools.partial(_read, engine.restore, sampling.max_tokens))
    self._write = jax.jit(functools.partial(_write, engine.restore, sampling, text.size, text.end_id), donate_argnums=1)

  def caption(self, images: Sequence[np.ndarray], seed: int = 0) -> list[str]:
    """Captions of uint8 [height, width, 3] pictures."""
    return self._run([self._tokenizer.caption(image) for image in images], seed)

  def answer(self, images: Sequence[np.ndarray], questions: Sequence[str], seed: int = 0) -> list[str]:
    """Answers to one question a picture."""
    pairs = zip(images, questions, strict=True)
    return self._run([self._tokenizer.question(image, question) for image, question in pairs], seed)

  def complete(self, texts: Sequence[str], seed: int = 0) -> list[str]:
    """What the model would have the texts go on with."""
    return self._run([self._document(text) for text in texts], seed)

  def stream(self, text: str, seed: int = 0) -> Iterator[str]:
    """What `complete` gives for one text, piece by piece as it is written."""
    written, shown = self._start([self._document(text)], seed), ''
    while not written.ended:
      written = self._go_on(written, written.step + _PIECE)
      [whole] = self._texts(written)
      # The bytes of a character may come in two pieces.
      if not whole.endswith(_HALF_CHARACTER) or written.ended:
        yield whole[len(shown):]
        shown = whole

  def _document(self, text: str) -> Tokens:
    if not text:
      raise InputError('an empty text cannot be completed; give it a first word')
    return self._tokenizer.document(text, end=False)

  def _run(self, runs: Sequence[Tokens], seed: int) -> list[str]:
    texts = []
    for first in range(0, len(runs), self._batch_size):
      batch = list(runs[first : first + self._batch_size])
      rows = batch + batch[:1] * (self._batch_size - len(batch))
      written = self._go_on(self._start(rows, seed + first, max(map(len, runs))), self._sampling.max_tokens)
      texts += self._texts(written)[: len(batch)]
    return texts

  def _start(self, rows: Sequence[Tokens], seed: int, longest: int = 0) -> 'Written':
    longest = longest or max(len(run) for run in rows)
    if longest + self._sampling.max_tokens > self._length:
      raise InputError(f'{longest} tokens to read and {self._sampling.max_tokens} to write are more than '
                       f'data.sequence_length={self._length}; shorten the text, shrink the picture or write fewer')
    inputs = lay_out(rows, round_up(longest, LENGTH_MULTIPLE), max(len(run.patches) for run in rows))
    seeds = np.arange(len(rows), dtype=np.uint32) + np.uint32(seed)
    return self._read(self._state, inputs, row_keys(seeds))

  def _go_on(self, written: 'Written', stop: int) -> 'Written':
    return self._write(self._state, written, min(stop, self._sampling.max_tokens))

  def _texts(self, written: 'Written') -> list[str]:
    rows = zip(np.asarray(written.ids_BxM), np.asarray(written.lengths_B), strict=True)
    return [self._tokenizer.text_tokenizer.decode(ids[:n]) for ids, n in rows]


class Written(NamedTuple):
  """What has been written so far.

  Attributes:
    step: int32 scalar, tokens written, those after a row's end included.
    ids_BxM: int32, M = max_tokens.
    lengths_B: int32, how many of them come before the end token.
    x_BxD: hidden state that the next token is predicted from.
    cache: of what was read and written.
    keys_B: the rows' randomness.
  """

  step: jax.Array
  ids_BxM: jax.Array
  lengths_B: jax.Array
  x_BxD: jax.Array
  cache: Cache
  keys_B: jax.Array

  @property
  def unfinished(self) -> jax.Array:
    """Whether there is room, and a row that has not ended."""
    return (self.step < self.ids_BxM.shape[1]) & jnp.any(self.lengths_B == self.step)

  @property
  def ended(self) -> bool:
    return not self.unfinished


def _read(restore, max_tokens: int, state, inputs, keys_B) -> Written:
  decoder = restore(state)
  rows, length = inputs.tokens.shape
  x_BxSxD, cache = decoder.extend(inputs, decoder.init_cache(rows, length + max_tokens))
  x_BxD = jnp.take_along_axis(x_BxSxD, cache.lengths[:, None, None] - 1, axis=1)[:, 0]
  none_B = jnp.zeros(rows, jnp.int32)
  return Written(jnp.int32(0), jnp.zeros((rows, max_tokens), jnp.int32), none_B, x_BxD, cache, keys_B)


def _write(restore, sampling: Sampling, text_size, end_id, state, written: Written, stop) -> Written:
  """Writes until every row has ended or `stop` tokens are written."""
  decoder = restore(state)

  def write(written):
    step, ids_BxM, lengths_B, x_BxD, cache, keys_B = written
    step_keys_B = jax.vmap(jax.random.fold_in, (0, None))(keys_B, step)
    ids_B = sample(
        decoder.logits(x_BxD, 0, text_size), step_keys_B, temperature=sampling.temperature, top_k=sampling.top_k,
        top_p=sampling.top_p)
    lengths_B += (lengths_B == step) & (ids_B != end_id)
    x_Bx1xD, cache = decoder.extend(single_token(ids_B, DOCUMENT_POSITION), cache)
    return Written(step + 1, ids_BxM.at[:, step].set(ids_B), lengths_B, x_Bx1xD[:, 0], cache, keys_B)

  return jax.lax.while_loop(lambda written: written.unfinished & (written.step < stop), write, written)

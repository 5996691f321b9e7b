"""Generation with a cache against choosing each token from a forward pass over all before it."""

import dataclasses

from flax import nnx
import jax
import numpy as np
import pytest

from data_pipelines.errors import InputError
from data_pipelines.sequences.rows import PackedBatch
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.sequences.tokens import concatenate
from data_pipelines.tokenization.text import TextTokenizer, train_text_tokenizer
from data_pipelines.tokenization.vocabulary import Vocabulary
from gato_jax.acting.engine import engine_of
from gato_jax.acting.generation import Generator, Sampling
from gato_jax.acting.inputs import lay_out
from gato_jax.config import model_config
from gato_jax.model.gato import Gato


@pytest.fixture(scope='module')
def tokenizer():
  text = train_text_tokenizer([f'what is in the picture {n}? a red square' for n in range(50)], 320)
  return SequenceTokenizer(Vocabulary(text_size=330, bins=16, discrete_size=16), text)


@pytest.fixture(scope='module')
def model(tokenizer):
  config = model_config()
  config.update(layers=2, width=32, heads=2, head_size=16, feed_forward=64, patch_channels=32, dtype='float32')
  model = Gato(config, tokenizer.vocabulary, rngs=nnx.Rngs(1))
  for branch in (model.blocks.attention, model.blocks.feed_forward):
    branch.output[...] *= 20  # else the tied table makes every token predict itself
  return model


def generator(model, tokenizer, *, batch_size=2, **sampling):
  settings = Sampling(**sampling)
  return Generator(engine_of(model), tokenizer, sequence_length=128, batch_size=batch_size, sampling=settings)


def greedy(model, tokenizer, run, count):
  """The ids that follow the run, by one forward pass a token."""
  end = tokenizer.text_tokenizer.end_id
  forward = jax.jit(lambda batch: model.logits(model(batch)))
  ids = []
  for _ in range(count):
    inputs = lay_out([run], 128, 16)
    nothing = np.zeros_like(inputs.tokens)
    batch = PackedBatch(
        inputs.tokens, nothing, nothing.astype(np.float32), inputs.valid.astype(np.int32),
        np.arange(128)[None], inputs.local_positions, nothing, *inputs[3:])
    token = int(np.argmax(forward(batch)[0, len(run) - 1, : tokenizer.text_tokenizer.size]))
    if token == end:
      break
    ids.append(token)
    one = tokenizer.document('a', end=False)
    one = dataclasses.replace(one, tokens=np.array([token], np.int32))
    run = concatenate([run, one])
  return ids


def test_completions_are_the_greedy_ones_whatever_the_batch(model, tokenizer):
  texts = ['what', 'a red square', 'in the picture 7? a']
  ids = [greedy(model, tokenizer, tokenizer.document(text, end=False), 6) for text in texts]
  assert len({tuple(row) for row in ids}) == 3
  wanted = [tokenizer.text_tokenizer.decode(row) for row in ids]
  for batch_size in (2, 4):
    assert generator(model, tokenizer, batch_size=batch_size, max_tokens=6).complete(texts) == wanted


def test_pictures_are_captioned_and_asked_about(model, tokenizer):
  rng = np.random.default_rng(0)
  images = [rng.integers(0, 256, (32, 48, 3)).astype(np.uint8) for _ in range(3)]
  questions = ['what is it?', 'is it a red square?', 'what?']
  writer = generator(model, tokenizer, max_tokens=4)
  decode = tokenizer.text_tokenizer.decode
  captions = [decode(greedy(model, tokenizer, tokenizer.caption(image), 4)) for image in images]
  assert writer.caption(images) == captions
  runs = [tokenizer.question(*pair) for pair in zip(images, questions, strict=True)]
  assert writer.answer(images, questions) == [decode(greedy(model, tokenizer, run, 4)) for run in runs]
  assert writer.caption([]) == []


def test_writing_stops_at_the_end_token(model, tokenizer, monkeypatch):
  text = 'in the picture 7? a'
  ids = greedy(model, tokenizer, tokenizer.document(text, end=False), 6)
  assert len(ids) == 6
  end = ids[1]
  monkeypatch.setattr(TextTokenizer, 'end_id', end)
  stopped = generator(model, tokenizer, max_tokens=6).complete([text])
  assert stopped == [tokenizer.text_tokenizer.decode(ids[: ids.index(end)])]


def test_sampling_follows_its_seed(model, tokenizer):
  writer = generator(model, tokenizer, max_tokens=8, temperature=1.0, top_k=50, top_p=0.95)
  assert writer.complete(['what'], seed=1) == writer.complete(['what'], seed=1)
  assert writer.complete(['what'], seed=1) != writer.complete(['what'], seed=2)


def test_what_is_too_long_or_empty_is_an_error(model, tokenizer):
  writer = generator(model, tokenizer, max_tokens=100)
  with pytest.raises(InputError, match='data.sequence_length=128'):
    writer.complete(['what is in the picture? ' * 20])
  with pytest.raises(InputError, match='empty'):
    writer.complete([''])
  with pytest.raises(InputError, match='empty'):
    next(writer.stream(''))


@pytest.mark.parametrize('setting', [{'max_tokens': 0}, {'temperature': -1.0}, {'temperature': float('nan')},
                                     {'top_k': -1}, {'top_p': 0.0}, {'top_p': 1.5}])
def test_sampling_without_sense_is_an_error(setting):
  [(name, value)] = setting.items()
  with pytest.raises(InputError, match=f'{name} is {value}: must be'):
    Sampling(**setting)


def test_a_stream_says_what_complete_says(model, tokenizer):
  """Greedy and drawn, in more than one piece; characters of several bytes are never cut."""
  for settings in ({}, {'temperature': 1.0}):
    generating = generator(model, tokenizer, batch_size=1, max_tokens=22, **settings)
    pieces = list(generating.stream('go to', seed=5))
    assert len(pieces) > 1
    assert [''.join(pieces)] == generating.complete(['go to'], seed=5)
    assert not any(piece.endswith('\ufffd') for piece in pieces[:-1])

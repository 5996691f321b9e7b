"""Held-out pictures and text: questions answered, captions right, loss in nats a byte."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import functools
from typing import NamedTuple

from flax import nnx
import jax
import ml_collections
import numpy as np

from data_pipelines.datasets.catalogue import requests
from data_pipelines.datasets.episodes import CaptionedImage, Episode, EpisodeSource, ImageQuestion
from data_pipelines.datasets.prepare import open_sources
from data_pipelines.datasets.sources import open_source
from data_pipelines.sequences.rows import PackedBatch
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from gato_jax.acting.engine import engine_of
from gato_jax.acting.generation import Generator, Sampling
from gato_jax.acting.inputs import lay_out
from gato_jax.evaluation.captions import cider
from gato_jax.model.gato import Gato
from gato_jax.training.loss import LossSettings, target_loss
from gato_jax.training.restore import Trained

BATCH_SIZE = 32  # pictures asked about at once
ROWS = 4  # of text scored at once
ANSWER_TOKENS = 32
BASELINE_SHARE = 20  # what the baselines learn from: so many times what is held out


@dataclasses.dataclass(frozen=True)
class LanguageScores:
  """None where the mixture has no such data.

  Attributes:
    vqa_accuracy: share of held-out questions answered exactly.
    vqa_majority: the same for always giving the commonest training answer.
    caption_accuracy: share of held-out captions that are exactly right.
    nats_per_byte: loss on held-out text.
    unigram_nats_per_byte: that of a unigram model of the same tokens.
    caption_cider: of the same captions, 0 to 10, see `gato_jax.evaluation.captions`.
  """

  vqa_accuracy: float | None = None
  vqa_majority: float | None = None
  caption_accuracy: float | None = None
  nats_per_byte: float | None = None
  unigram_nats_per_byte: float | None = None
  caption_cider: float | None = None


class Example(NamedTuple):
  """One picture that was asked about.

  Attributes:
    image: uint8 [height, width, 3].
    question: empty where a caption was asked for.
    wanted: the dataset's answer or caption.
    given: the model's.
  """

  image: np.ndarray
  question: str
  wanted: str
  given: str

  @property
  def right(self) -> bool:
    """To the letter, white space around it aside."""
    return self.wanted.strip() == self.given.strip()


def score_language(trained: Trained, config: ml_collections.ConfigDict) -> LanguageScores:
  """Scores all pictures and text of the mixture; datasets of one kind are taken together."""
  heldout = open_sources(config.data, 'heldout')
  train = [open_source(request, config.data.dir, 'train') for request in requests(config.data)
           if request.type.kind != 'control']
  rng = np.random.default_rng(config.evaluation.seed)
  settings = config.evaluation
  scores: dict[str, float] = {}
  if questions := draw(heldout, 'vqa', settings.examples, rng):
    # Training questions are drawn one at a time: their pictures together may not fit into memory.
    known = [known.answer for known in _draw(_of_kind(train, 'vqa'), BASELINE_SHARE * settings.examples, rng)]
    scores |= {'vqa_accuracy': share_right(answer(trained, questions)),
               'vqa_majority': majority_accuracy(known, [question.answer for question in questions])}
  if pictures := draw(heldout, 'caption', settings.examples, rng):
    written = caption(trained, pictures)
    scores |= {'caption_accuracy': share_right(written), 'caption_cider': caption_cider(written)}
  if texts := _texts(_of_kind(heldout, 'text'), settings.text_characters, rng):
    known = _texts(_of_kind(train, 'text'), BASELINE_SHARE * settings.text_characters, rng)
    length = trained.config.data.sequence_length
    nats, unigram_nats = text_loss(trained.model, trained.tokenizer, length, texts, known)
    scores |= {'nats_per_byte': nats, 'unigram_nats_per_byte': unigram_nats}
  return LanguageScores(**scores)


def answer(trained: Trained, questions: Sequence[ImageQuestion]) -> list[Example]:
  """Asks the model."""
  longest = max(len(trained.tokenizer.question(each.image, each.question)) for each in questions)
  given = _generator(trained, longest).answer(
      [each.image for each in questions], [each.question for each in questions])
  return [Example(each.image, each.question, each.answer, text) for each, text in zip(questions, given, strict=True)]


def caption(trained: Trained, pictures: Sequence[CaptionedImage]) -> list[Example]:
  """Has the model write captions."""
  longest = max(len(trained.tokenizer.caption(each.image)) for each in pictures)
  given = _generator(trained, longest).caption([each.image for each in pictures])
  return [Example(each.image, '', each.caption, text) for each, text in zip(pictures, given, strict=True)]


def _generator(trained: Trained, longest: int) -> Generator:
  """Writes as long answers as the model's rows have room for after `longest` tokens, up to `ANSWER_TOKENS`."""
  length = trained.config.data.sequence_length
  return Generator(
      engine_of(trained.model), trained.tokenizer, sequence_length=length, batch_size=BATCH_SIZE,
      sampling=Sampling(max_tokens=max(1, min(ANSWER_TOKENS, length - longest))))


def share_right(examples: Sequence[Example]) -> float:
  """Share of the examples that are right."""
  return float(np.mean([example.right for example in examples]))


def caption_cider(examples: Sequence[Example]) -> float:
  """CIDEr; examples of the same picture are one picture with several captions."""
  by_picture: dict[tuple, list[Example]] = {}
  for example in examples:
    by_picture.setdefault((example.image.shape, example.image.tobytes()), []).append(example)
  return cider([[example.wanted for example in same] for same in by_picture.values()],
               [same[0].given for same in by_picture.values()])


def majority_accuracy(known: Iterable[str], wanted: Sequence[str]) -> float:
  """What always giving the commonest of the known answers would score."""
  commonest, _ = Counter(answer.strip() for answer in known).most_common(1)[0]
  return float(np.mean([answer.strip() == commonest for answer in wanted]))


def text_loss(
    model: Gato, tokenizer: SequenceTokenizer, sequence_length: int, texts: Sequence[str], known: Sequence[str]
) -> tuple[float, float]:
  """Nats a byte of the texts, their end tokens included: the model's, and a unigram model's of the same tokens.

  A text longer than a row is cut into rows that overlap by one token, so that each token but its first is predicted
  from what its row has before it. Nothing predicts the first: it costs its unigram price in both.

  Args:
    model: what is scored.
    tokenizer: the one it was trained with.
    sequence_length: L.
    texts: held-out documents.
    known: training documents, which the unigram model counts.
  """
  documents = [tokenizer.document(text) for text in texts]
  size = tokenizer.text_tokenizer.size
  counted = np.concatenate([tokenizer.text_tokenizer.encode(text, end=True) for text in known])
  prices_V = unigram_prices(counted, size)
  firsts = sum(prices_V[document.tokens[0]] for document in documents)
  step = sequence_length - 1
  rows = [
      _part(document, start, start + sequence_length)
      for document in documents
      for start in range(0, len(document) - 1, step)
  ]
  nats = _nats(model, tokenizer, rows, sequence_length)
  size_in_bytes = sum(len(text.encode()) for text in texts)
  unigram = sum(prices_V[document.tokens].sum() for document in documents)
  return float((nats + firsts) / size_in_bytes), float(unigram / size_in_bytes)


def unigram_prices(tokens: np.ndarray, size: int) -> np.ndarray:
  """Negative log-probability in nats of each of `size` ids, counted in the tokens with one added to every count."""
  counts = np.bincount(tokens, minlength=size) + 1.0
  return -np.log(counts / counts.sum())


def _part(document, start: int, stop: int):
  """Tokens [start, stop) of a document, which has no patches."""
  fields = ('tokens', 'labels', 'loss_mask', 'local_positions')
  return dataclasses.replace(document, **{name: getattr(document, name)[start:stop] for name in fields})


def _nats(model: Gato, tokenizer: SequenceTokenizer, rows: Sequence, length: int) -> float:
  """Summed loss of every token of the rows but each row's first."""
  vocabulary = tokenizer.vocabulary
  settings = LossSettings(vocabulary.size, vocabulary.continuous_start, vocabulary.bins, 0.0, 1)
  loss = jax.jit(functools.partial(_row_loss, nnx.graphdef(model), settings))
  state = nnx.state(model)
  total = 0.0
  for first in range(0, len(rows), ROWS):
    batch = list(rows[first : first + ROWS])
    batch += [_part(rows[0], 0, 0)] * (ROWS - len(batch))
    total += float(loss(state, _packed(batch, length)))
  return total


def _packed(rows: Sequence, length: int) -> PackedBatch:
  """One segment a row."""
  inputs = lay_out(rows, length, 0)
  weights = np.zeros(inputs.tokens.shape, np.float32)
  weights[:, :-1] = inputs.valid[:, 1:]
  positions = np.tile(np.arange(length, dtype=np.int32), (len(rows), 1))
  return PackedBatch(
      tokens=inputs.tokens, targets=np.roll(inputs.tokens, -1, axis=1), loss_weights=weights,
      segment_ids=inputs.valid.astype(np.int32), positions=positions, local_positions=inputs.local_positions,
      sources=np.zeros(inputs.tokens.shape, np.int16), patches=inputs.patches, patch_positions=inputs.patch_positions,
      patch_intervals=inputs.patch_intervals)


def _row_loss(graphdef, settings: LossSettings, state, batch: PackedBatch) -> jax.Array:
  model = nnx.merge(graphdef, state)
  hidden_BxLxD = model(batch)
  return target_loss(
      hidden_BxLxD, model.embedding_table(), batch.targets, batch.loss_weights, batch.sources, settings).loss


def draw(sources: Sequence[EpisodeSource], kind: str, count: int, rng: np.random.Generator) -> list[Episode]:
  """`count` examples of all sources of a kind together, or all there are; fewer are the first of more."""
  return list(_draw(_of_kind(sources, kind), count, rng))


def _of_kind(sources: Sequence[EpisodeSource], kind: str) -> list[EpisodeSource]:
  return [source for source in sources if source.kind == kind]


def _draw(sources: Sequence[EpisodeSource], count: int | None, rng: np.random.Generator) -> Iterator[Episode]:
  """`count` episodes of all sources together, or all there are, in random order; each is read when it is asked for."""
  places = [(source, index) for source in sources for index in range(len(source))]
  for i in rng.permutation(len(places))[:count]:
    source, index = places[i]
    yield source[index]


def _texts(sources: Sequence[EpisodeSource], characters: int, rng: np.random.Generator) -> list[str]:
  """Documents in random order up to so many characters in all; the last one is cut."""
  texts: list[str] = []
  for document in _draw(sources, None, rng):
    text = document.text[:characters]
    if text:
      texts.append(text)
    characters -= len(text)
    if characters <= 0:
      break
  return texts

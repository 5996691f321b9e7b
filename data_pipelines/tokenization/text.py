"""Text as subwords: SentencePiece with byte fallback, so that any text comes back unchanged."""

from collections.abc import Iterable
import dataclasses
import functools
import io
import os

import numpy as np
import sentencepiece

from data_pipelines.errors import InputError

_SPACE_MARK = '\u2581'  # SentencePiece's own sign for a space; one that is really in the text goes as bytes


@dataclasses.dataclass(frozen=True)
class TextTokenizer:
  """A trained SentencePiece model, kept as its serialised bytes: picklable, hashable, written as it is."""

  model: bytes

  @functools.cached_property
  def _processor(self) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=self.model)

  @property
  def size(self) -> int:
    """Ids are in [0, size)."""
    return self._processor.get_piece_size()

  @property
  def end_id(self) -> int:
    """</s>: ends a document, a caption and an answer."""
    return self._processor.eos_id()

  def encode(self, text: str, end: bool = False) -> np.ndarray:
    """int32 ids of a text, with the end token after it if asked for."""
    parts = text.split(_SPACE_MARK)
    ids = self._processor.encode(parts[0])
    for part in parts[1:]:
      ids += [self._processor.piece_to_id(f'<0x{byte:02X}>') for byte in _SPACE_MARK.encode()]
      ids += self._processor.encode(part)
    return np.array(ids + [self.end_id] * end, np.int32)

  def decode(self, ids: Iterable[int]) -> str:
    """The text of ids; the end token is left out."""
    return self._processor.decode([int(i) for i in ids])

  def piece(self, token: int) -> str:
    """The subword of an id as it stands in a text; a byte that is no character is `<0xE2>`, the end `</s>`."""
    piece = self._processor.id_to_piece(token)
    if self._processor.is_byte(token) and int(piece[3:5], 16) < 0x80:
      return chr(int(piece[3:5], 16))
    return piece.replace(_SPACE_MARK, ' ')

  def save(self, path: str | os.PathLike) -> None:
    with open(path, 'wb') as file:
      file.write(self.model)

  @classmethod
  def load(cls, path: str | os.PathLike) -> 'TextTokenizer':
    try:
      with open(path, 'rb') as file:
        tokenizer = cls(file.read())
      _ = tokenizer.size  # parses the model, so that a broken file fails here
    except (OSError, RuntimeError) as error:
      raise InputError(f'{path}: no readable SentencePiece model ({error}); run `gato-jax prepare`') from error
    return tokenizer


def train_text_tokenizer(texts: Iterable[str], size: int) -> TextTokenizer:
  """Trains a byte-pair SentencePiece model; the same texts in the same order give the same bytes.

  Args:
    texts: what to learn from; read once.
    size: most subwords to have. A small corpus may support fewer; see `TextTokenizer.size`.

  Raises:
    InputError: nothing to learn from, or `size` is too small for the bytes and characters alone.
  """
  model = io.BytesIO()
  lines = (line for text in texts for line in text.split('\n') if line)
  try:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines, model_writer=model, vocab_size=size, hard_vocab_limit=False, model_type='bpe',
        num_threads=1, byte_fallback=True, character_coverage=0.9999, normalization_rule_name='identity',
        remove_extra_whitespaces=False, add_dummy_prefix=False, allow_whitespace_only_pieces=True,
        max_sentence_length=2**20, unk_id=0, eos_id=1, bos_id=-1, pad_id=-1, minloglevel=2)
  except RuntimeError as error:
    raise InputError(f'cannot train a text tokenizer of data.vocabulary.text_size={size}: {error}') from error
  return TextTokenizer(model.getvalue())

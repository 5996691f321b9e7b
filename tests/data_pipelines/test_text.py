"""Subwords: nothing is lost, and training gives the same model again."""

import pickle

from hypothesis import example, given
from hypothesis import strategies as st
import numpy as np
import pytest

from data_pipelines.errors import InputError
from data_pipelines.tokenization.text import TextTokenizer, train_text_tokenizer
from tests.data_pipelines.token_cases import DOCUMENTS, text_tokenizer


@given(st.text(st.characters(exclude_categories=['Cs']), max_size=40))
@example('')
@example('  two  spaces\n\n\ttab\r\n ')
@example('\u2581a \u2581\u2581 b')
@example('<0x0A> </s> <unk>')
@example('na\u00efve \u6f22\u5b57 \U0001f642 \x00')
def test_any_text_comes_back(text):
  tokenizer = text_tokenizer()
  ids = tokenizer.encode(text)
  assert ids.dtype == np.int32
  assert not len(ids) or 0 <= ids.min() <= ids.max() < tokenizer.size
  assert tokenizer.decode(ids) == text


def test_documents_come_back_shorter():
  tokenizer = text_tokenizer()
  for document in DOCUMENTS[:10]:
    ids = tokenizer.encode(document, end=True)
    assert ids[-1] == tokenizer.end_id and tokenizer.end_id not in ids[:-1]
    assert tokenizer.decode(ids) == document
    assert len(ids) < 0.6 * len(document.encode())


def test_training_is_deterministic_and_takes_an_iterator():
  assert train_text_tokenizer(iter(DOCUMENTS), 600).model == train_text_tokenizer(iter(DOCUMENTS), 600).model


def test_saves_loads_and_pickles(tmp_path):
  tokenizer = text_tokenizer()
  tokenizer.save(tmp_path / 'text.model')
  for copy in (TextTokenizer.load(tmp_path / 'text.model'), pickle.loads(pickle.dumps(tokenizer))):
    assert copy.encode('the object').tolist() == tokenizer.encode('the object').tolist()


def test_bad_input(tmp_path):
  with pytest.raises(InputError, match='text_size=50'):
    train_text_tokenizer(DOCUMENTS, 50)
  with pytest.raises(InputError, match='gato-jax prepare'):
    TextTokenizer.load(tmp_path / 'missing.model')
  (tmp_path / 'broken.model').write_bytes(b'not a model')
  with pytest.raises(InputError, match='broken.model'):
    TextTokenizer.load(tmp_path / 'broken.model')

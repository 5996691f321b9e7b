"""Where tokens come from, checked against what the loader makes of them."""

import numpy as np
import pytest

from data_pipelines.datasets.episodes import Page
from data_pipelines.environments.specs import ArraySpec
from data_pipelines.errors import InputError
from data_pipelines.explained_rows import RowReader
from data_pipelines.loader import make_loader
from data_pipelines.provenance import KINDS, origins
from data_pipelines.sequences.plan import Role
from data_pipelines.sequences.tokens import ACTION_POSITION, DOCUMENT_POSITION, SEPARATOR_POSITION
from tests.data_pipelines.token_cases import MemorySource, data_config, mixed_sources, tokenizer

ROWS = 8


@pytest.fixture(scope='module')
def reader():
  return RowReader(data_config(), mixed_sources(), tokenizer(), 0)


@pytest.fixture(scope='module')
def rows(reader):
  return [reader.packed(number) for number in range(ROWS)]


def places(rows, *kinds):
  return [(row.row, i, origin) for row in rows for i, origin in enumerate(row.origins) if origin.kind in kinds]


def test_the_rows_are_the_loaders(rows):
  loader = make_loader(data_config(), mixed_sources(), tokenizer(), seed=0, batch_size=ROWS)
  batch = next(loader)
  loader.close()
  for field, values in batch._asdict().items():
    np.testing.assert_array_equal(np.stack([getattr(row.row, field) for row in rows]), values, err_msg=field)


def test_every_kind_is_told_by_what_the_tokenizer_wrote(rows):
  vocabulary = tokenizer().vocabulary
  for row, i, origin in places(rows, *KINDS):
    token, local = row.tokens[i], row.local_positions[i]
    in_bins = vocabulary.continuous_start <= token < vocabulary.continuous_start + vocabulary.bins
    assert (origin.kind == 'separator') == (local == SEPARATOR_POSITION) == (token == vocabulary.separator_id)
    assert (origin.kind == 'picture patch') == (token == vocabulary.patch_id)
    assert origin.kind.endswith('action') == (local == ACTION_POSITION)
    assert origin.kind.startswith('continuous') == (in_bins or (local == ACTION_POSITION and origin.kind[0] == 'c'))
    assert origin.kind == 'text' or local != DOCUMENT_POSITION
    assert origin.source == row.sources[i]
  assert {origin.kind for *_, origin in places(rows, *KINDS)} == set(KINDS)


def test_values_encode_to_the_tokens(rows):
  vocabulary = tokenizer().vocabulary
  encoders = {'continuous observation': (vocabulary.encode_observation, ArraySpec('continuous')),
              'discrete observation': (vocabulary.encode_observation, ArraySpec('discrete', (), 1024)),
              'continuous action': (vocabulary.encode_action, ArraySpec('continuous')),
              'discrete action': (vocabulary.encode_action, ArraySpec('discrete', (), 1024))}
  hidden = 0
  for row, i, origin in places(rows, *encoders):
    encode, spec = encoders[origin.kind]
    if row.tokens[i] == vocabulary.hidden_action_id:
      hidden += 1
    else:
      assert encode(spec, np.asarray(origin.value)) == row.tokens[i]
  assert hidden  # half of Meta-World's windows hide their actions; what they hid is known all the same


def test_values_are_those_of_the_episode_at_that_timestep(rows):
  sources = mixed_sources()
  seen = set()
  for _, _, origin in places(rows, 'continuous observation', 'discrete action'):
    episode = sources[origin.source][origin.episode]
    key, _, place = origin.item.rstrip(']').partition('[')
    values = episode.action if key == 'action' else episode.observation[key]
    at_step = values[origin.timestep]
    assert origin.value == (at_step[int(place)] if place else at_step)
    seen.add(origin.item)
  assert {'position[0]', 'position[2]', 'velocity[1]', 'state[38]', 'action'} <= seen


def test_subwords_make_up_the_text(rows):
  text = {}
  for row, i, origin in places(rows, 'text'):
    text.setdefault((id(row), row.segment_ids[i], origin.source), []).append(origin.value)
  captions = [''.join(pieces) for (*_, source), pieces in text.items() if source == 5]
  assert captions and all(caption[:-4] in {f'a handwritten {digit}' for digit in range(10)} for caption in captions)
  assert all(caption.endswith('</s>') for caption in captions)


def test_prompts_come_first_and_from_another_episode(rows):
  found = 0
  for row in rows:
    for segment in range(1, row.row.segment_ids.max() + 1):
      of_segment = [row.origins[i] for i in np.flatnonzero(row.row.segment_ids == segment)]
      prompt = [origin for origin in of_segment if origin.role == Role.PROMPT]
      assert of_segment[:len(prompt)] == prompt
      if prompt:
        found += 1
        assert prompt[0].episode != of_segment[-1].episode
  assert found


def test_a_window_alone(reader):
  cartpole = reader.alone(0, 3)
  assert [origin.item for origin in cartpole.origins[:7]] == [
      'position[0]', 'position[1]', 'position[2]', 'velocity[0]', 'velocity[1]', 'separator', 'action[0]']
  assert [origin.timestep for origin in cartpole.origins] == [0] * 7 + [1] * 7 + [2] * 7
  # 16 patches, a mission of 3 to 5 subwords, a direction, a separator and an action a timestep
  go_to = reader.alone(3, 1000)
  steps = go_to.origins[-1].timestep + 1
  assert 256 // 24 <= steps <= 256 // 22
  assert sum(origin.kind == 'picture patch' for origin in go_to.origins) == 16 * steps
  assert len(reader.alone(6, 1000).origins) == 256  # of a document, as much as a row holds


@pytest.mark.parametrize(('texts', 'into'), [(('a ball', None, 'a key', None), 3), ((None, 'a key', None), 0)])
def test_a_page_alone_is_not_cut_in_a_picture(texts, into):
  lengths = [16 if text is None else len(tokenizer().text_tokenizer.encode(text)) for text in texts]
  wanted = ''.join(('P' if text is None else 'T') * length for text, length in zip(texts, lengths, strict=True))
  images = np.zeros((texts.count(None), 64, 64, 3), np.uint8)
  config = data_config(mixture={'m3w': data_config().mixture['python_docs']})
  reader = RowReader(config, [MemorySource('m3w', 'pages', [Page(texts, images)] * 3)], tokenizer(), 0)
  kinds = [origin.kind for origin in reader.alone(0, sum(lengths[:into]) + 8).origins]
  # before the picture there, or behind it where it is the first thing
  assert ''.join('P' if kind == 'picture patch' else 'T' for kind in kinds) == wanted[:sum(lengths[:into]) or 16]


def test_an_index_that_is_out_of_date(reader):
  row = reader.alone(0, 3).row
  pieces = np.array([(0, 0, 0, 4, 1, 0, False)], [(name, int) for name in
                    ('source', 'episode', 'start', 'stop', 'segment', 'role', 'hide')])
  with pytest.raises(InputError, match='21 tokens in a row whose episodes have 28; delete the episode_index'):
    origins(pieces, row, mixed_sources(), tokenizer())


def test_pieces_of_bytes_and_spaces():
  text = tokenizer().text_tokenizer
  ids = text.encode('the\n\x07 \u20ac', end=True).tolist()  # neither the bell nor the euro has a subword
  assert [text.piece(token) for token in ids[-4:]] == ['<0xE2>', '<0x82>', '<0xAC>', '</s>']
  assert ''.join(text.piece(token) for token in ids[:-4]) == 'the\n\x07 '

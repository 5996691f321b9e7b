"""Order, masks and local positions of tokens (Gato paper, section 2 and figure 2)."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.datasets.episodes import CaptionedImage, ControlEpisode, ImageQuestion, TextDocument
from data_pipelines.environments.specs import ArraySpec
from data_pipelines.errors import InputError
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.sequences.tokens import (
    ACTION_POSITION,
    DOCUMENT_POSITION,
    LAST_OBSERVATION_POSITION,
    LOCAL_POSITIONS,
    SEPARATOR_POSITION,
    concatenate,
)
from data_pipelines.tokenization.vocabulary import Vocabulary
from tests.data_pipelines.token_cases import (
    CARTPOLE,
    GO_TO,
    MemorySource,
    control_task,
    picture,
    random_episode,
    text_tokenizer,
    tokenizer,
)

RNG = np.random.default_rng(5)
PAPER = SequenceTokenizer(Vocabulary(32_000), text_tokenizer())


@dataclasses.dataclass(frozen=True)
class Words:
  """A text tokenizer of one id a word, so that lengths can be chosen."""

  model: bytes = b''
  size: int = 1024
  end_id: int = 1

  def encode(self, text: str, end: bool = False) -> np.ndarray:
    return np.array([2 + len(word) for word in text.split()] + [self.end_id] * end, np.int32)


WORDS = SequenceTokenizer(Vocabulary(1024), Words())


def episode_of(observation, action, expert_action=None) -> ControlEpisode:
  expert_action = action if expert_action is None else expert_action
  return ControlEpisode(observation, action, expert_action, np.zeros(len(action), np.float32), 0.0, True)


def kinds(run, vocabulary) -> str:
  """One letter a token: image, text, proprioception, separator, action."""
  letters = []
  for token, position in zip(run.tokens, run.local_positions, strict=True):
    if position == ACTION_POSITION:
      letters.append('A')
    elif token in (vocabulary.patch_id, vocabulary.separator_id):
      letters.append('I' if token == vocabulary.patch_id else '|')
    else:
      letters.append('P' if token >= vocabulary.continuous_start else 'T')
  return ''.join(letters)


def targets(run) -> str:
  """What the next token's place shows in the second grid of the paper's figure 2."""
  letters = ''.join(letter if target else '.' for letter, target in
                    zip(kinds(run, WORDS.vocabulary), run.loss_mask, strict=True) if letter != '|')
  return letters[1:] + '.'


def test_cartpole_step():
  values = {'velocity': np.array([0.02, -0.5], np.float32), 'position': np.array([0.1, 0.995, -0.0998], np.float32)}
  step = {key: value[None] for key, value in values.items()}
  run = PAPER.timesteps(CARTPOLE, episode_of(step, np.array([[-0.25]], np.float32)), 0, 1)
  separator = PAPER.vocabulary.separator_id
  assert run.tokens.tolist() == [32632, 32744, 32391, 32567, 32313, separator, 32384]
  assert run.labels.tolist() == run.tokens.tolist()
  assert run.local_positions.tolist() == [0, 1, 2, 3, 4, SEPARATOR_POSITION, ACTION_POSITION]
  assert run.loss_mask.tolist() == [False] * 6 + [True]


def test_atari_like_step():
  task = control_task('atari/pong', ArraySpec('discrete', (), 6), frame=ArraySpec('image', (64, 80, 3)))
  frames = RNG.integers(256, size=(1, 64, 80, 3), dtype=np.uint8)
  run = PAPER.timesteps(task, episode_of({'frame': frames}, np.array([3], np.int32)), 0, 1)
  vocabulary = PAPER.vocabulary
  assert run.tokens.tolist() == [vocabulary.patch_id] * 20 + [vocabulary.separator_id, 3]
  assert run.local_positions.tolist() == [*range(20), SEPARATOR_POSITION, ACTION_POSITION]
  assert run.patch_positions.tolist() == list(range(20))
  np.testing.assert_array_equal(run.patches[6], frames[0, 16:32, 16:32])
  assert run.patch_intervals[7].tolist() == [[32, 64], [51, 77]]


def test_figure_2_atari():
  task = control_task('atari/pong', ArraySpec('discrete', (), 6), frame=ArraySpec('image', (16, 32, 3)))
  run = WORDS.timesteps(task, random_episode(task, 4, RNG), 0, 4)
  assert kinds(run, WORDS.vocabulary) == 'II|A' * 4
  assert targets(run)[:11] == '.A..A..A..A'


def test_figure_2_text():
  run = WORDS.document('a b c d e f g h i j k')
  assert kinds(run, WORDS.vocabulary) == 'T' * 12  # and the end token
  assert targets(run)[:11] == 'T' * 11
  assert (run.local_positions == DOCUMENT_POSITION).all()


def test_figure_2_robot():
  task = control_task('robot/arm', ArraySpec('continuous', (2,)), camera=ArraySpec('image', (16, 32, 3)),
                      joints=ArraySpec('continuous', (2,)))
  run = WORDS.timesteps(task, random_episode(task, 3, RNG), 0, 2)
  assert kinds(run, WORDS.vocabulary) == 'IIPP|AA' * 2
  assert targets(run)[:11] == '...AA....AA'


def test_figure_2_questions():
  image = RNG.integers(256, size=(16, 48, 3), dtype=np.uint8)
  run = WORDS.question(image, 'what animal', 'a grey cat')  # Q: what animal A: | a grey cat </s>
  assert kinds(run, WORDS.vocabulary) == 'IIITTTTTTTT'
  assert targets(run) == '......TTTT.'
  unmasked = dataclasses.replace(WORDS, mask_question=False).question(image, 'what animal', 'a grey cat')
  assert targets(unmasked) == '..TTTTTTTT.'


def test_caption_and_generation_prefixes():
  image = picture(RNG, 40)
  real = tokenizer()
  run = real.caption(image, 'a handwritten 7')
  assert real.text_tokenizer.decode(run.tokens[9:]) == 'a handwritten 7'
  assert run.tokens[-1] == real.text_tokenizer.end_id
  assert run.loss_mask.tolist() == [False] * 9 + [True] * (len(run) - 9)
  assert run.local_positions.tolist() == [*range(9)] + [DOCUMENT_POSITION] * (len(run) - 9)
  for prefix, whole in ((real.caption(image), run), (real.question(image, 'red?'), real.question(image, 'red?', 'no')),
                        (real.document('a b', end=False), real.document('a b'))):
    assert len(prefix) < len(whole)
    assert prefix.tokens.tolist() == whole.tokens[:len(prefix)].tolist()
    np.testing.assert_array_equal(prefix.patches, whole.patches)
  question = real.question(image, 'red?', 'no')
  assert real.text_tokenizer.decode(question.tokens[9:]) == 'Q: red? A: no'


def test_babyai_observation_is_sorted_by_key_and_missions_are_targets():
  real = tokenizer()
  episode = random_episode(GO_TO, 6, RNG)
  mission = real.text_tokenizer.encode(episode.observation['mission'][0])
  run = real.timesteps(GO_TO, episode, 0, 1)
  n = 1 + 16 + len(mission)
  assert run.tokens[0] == episode.observation['direction'][0]
  assert run.patch_positions.tolist() == list(range(1, 17))
  assert run.tokens[17:n].tolist() == mission.tolist()
  assert run.tokens[n:].tolist() == [real.vocabulary.separator_id, episode.action[0]]
  assert run.local_positions.tolist() == [*range(n), SEPARATOR_POSITION, ACTION_POSITION]
  assert np.flatnonzero(run.loss_mask).tolist() == [*range(17, n), n + 1]


def test_inputs_are_executed_actions_and_labels_the_experts():
  real = tokenizer()
  episode = random_episode(CARTPOLE, 5, RNG)
  for hide in (False, True):
    run = real.timesteps(CARTPOLE, episode, 1, 4, hide_actions=hide)
    actions = run.local_positions == ACTION_POSITION
    executed = real.vocabulary.encode_action(CARTPOLE.action, episode.action[1:4]).ravel()
    expert = real.vocabulary.encode_action(CARTPOLE.action, episode.expert_action[1:4]).ravel()
    assert run.labels[actions].tolist() == expert.tolist() != executed.tolist()
    assert run.tokens[actions].tolist() == ([real.vocabulary.hidden_action_id] * 3 if hide else executed.tolist())
    assert run.tokens[~actions].tolist() == run.labels[~actions].tolist()


def test_play_and_episode_give_the_same_tokens():
  real = tokenizer()
  episode = random_episode(GO_TO, 9, RNG)
  whole = real.timesteps(GO_TO, episode, 0, 9)
  steps = []
  for t in range(9):
    seen = real.observation(GO_TO, {key: values[t] for key, values in episode.observation.items()})
    step = real.timesteps(GO_TO, episode, t, t + 1)
    for field in dataclasses.fields(seen):
      ours, theirs = getattr(seen, field.name), getattr(step, field.name)
      np.testing.assert_array_equal(ours, theirs[:len(ours)], err_msg=field.name)
    assert len(seen) == len(step) - 1 and seen.tokens[-1] == real.vocabulary.separator_id
    steps.append(step)
  joined = concatenate(steps)
  for field in dataclasses.fields(joined):
    np.testing.assert_array_equal(getattr(joined, field.name), getattr(whole, field.name), err_msg=field.name)


def test_windows_of_a_tokenized_episode_are_its_timesteps():
  real = tokenizer()
  episode = random_episode(GO_TO, 9, RNG)
  tokenized = real.tokenize(MemorySource(GO_TO.name, 'control', [episode], GO_TO), 0)
  assert tokenized.length == 9 and tokenized.step_patches == 16
  for start, stop, hide in ((0, 9, False), (3, 7, True), (8, 9, False)):
    window, direct = tokenized.window(start, stop, hide), real.timesteps(GO_TO, episode, start, stop, hide)
    for field in dataclasses.fields(window):
      np.testing.assert_array_equal(getattr(window, field.name), getattr(direct, field.name), err_msg=field.name)


def test_long_observations_stay_on_the_last_position():
  task = control_task('x/long', ArraySpec('discrete', (), 2), state=ArraySpec('continuous', (600,)))
  run = tokenizer().timesteps(task, random_episode(task, 1, RNG), 0, 1)
  assert run.local_positions[:600].tolist() == [min(i, LAST_OBSERVATION_POSITION) for i in range(600)]
  reserved = {LAST_OBSERVATION_POSITION, DOCUMENT_POSITION, SEPARATOR_POSITION, ACTION_POSITION}
  assert len(reserved) == 4 and max(reserved) == 511 == LOCAL_POSITIONS - 1


def test_saves_and_loads(tmp_path):
  real = tokenizer()
  real.save(tmp_path)
  loaded = SequenceTokenizer.load(tmp_path)
  assert loaded == real and loaded.digest == real.digest != PAPER.digest
  (tmp_path / 'vocabulary.json').write_text('{')
  with pytest.raises(InputError, match='vocabulary.json'):
    SequenceTokenizer.load(tmp_path)


def test_more_subwords_than_ids():
  with pytest.raises(InputError, match='raise text_size'):
    SequenceTokenizer(Vocabulary(300, discrete_overlaps_text=False), text_tokenizer())


def bad_episode(**changes):
  return dataclasses.replace(random_episode(CARTPOLE, 4, RNG), **changes)


@pytest.mark.parametrize(('episode', 'message'), [
    (bad_episode(action=np.full((4, 1), 1.5, np.float32)), 'action: action 1.5 is outside'),
    (bad_episode(expert_action=np.full((4, 1), np.nan, np.float32)), 'expert_action: NaN'),
    (bad_episode(expert_action=np.zeros((3, 1), np.float32)), 'expert_action has shape'),
    (bad_episode(observation={'position': np.zeros((4, 3), np.float32)}), "has the keys .'position'.*'velocity'"),
    (bad_episode(observation={'position': np.zeros((4, 3)), 'velocity': np.full((4, 2), np.nan)}), "'velocity': NaN"),
    (bad_episode(observation={'position': np.zeros((3, 3)), 'velocity': np.zeros((4, 2))}), "'position': 3 timesteps"),
    (bad_episode(action=np.zeros((0, 1), np.float32)), 'no timesteps'),
])
def test_bad_episodes_are_named(episode, message):
  source = MemorySource(CARTPOLE.name, 'control', [random_episode(CARTPOLE, 4, RNG), episode], CARTPOLE)
  with pytest.raises(InputError, match=f'dm_control/cartpole, episode 1: .*{message}'):
    tokenizer().tokenize(source, 1)


def test_pictures_that_do_not_fit_the_spec():
  episode = random_episode(GO_TO, 2, RNG)
  episode.observation['image'] = np.zeros((2, 80, 56, 3), np.uint8)
  with pytest.raises(InputError, match='do not fit'):
    tokenizer().timesteps(GO_TO, episode, 0, 2)


def test_every_kind_of_episode_is_tokenized():
  real, image = tokenizer(), picture(RNG, 16)
  cases = [(TextDocument('a b'), real.document('a b'), 'text'),
           (CaptionedImage(image, 'b'), real.caption(image, 'b'), 'caption'),
           (ImageQuestion(image, 'a', 'b'), real.question(image, 'a', 'b'), 'vqa')]
  for episode, run, kind in cases:
    tokenized = real.tokenize(MemorySource('x', kind, [episode]), 0)
    assert tokenized.length == (len(run) if kind == 'text' else 1)
    assert tokenized.window(0, tokenized.length).tokens.tolist() == run.tokens.tolist()

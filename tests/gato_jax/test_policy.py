"""The policy against one pass over the whole episode, whose contexts an independent rule tells."""

import dataclasses

from flax import nnx
import numpy as np
import pytest

from data_pipelines.datasets.episodes import ControlEpisode
from data_pipelines.environments.specs import ArraySpec, TaskSpec
from data_pipelines.errors import InputError
from data_pipelines.sequences.rows import PackedBatch
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.sequences.tokens import concatenate
from data_pipelines.tokenization.text import train_text_tokenizer
from data_pipelines.tokenization.vocabulary import Vocabulary
from gato_jax.acting.engine import engine_of
from gato_jax.acting.inputs import lay_out
from gato_jax.acting.policy import Policy
from gato_jax.acting.prompts import prompt_steps
from gato_jax.config import acting_config, model_config
from gato_jax.model.gato import Gato
from tests.gato_jax import numpy_gato

REACH = TaskSpec(
    'robot/reach', 'robot', {'joints': ArraySpec('continuous', (3,))}, ArraySpec('continuous', (2,)), 100)
LEVEL = TaskSpec(
    'maze/go', 'maze',
    {'image': ArraySpec('image', (32, 32, 3)), 'mission': ArraySpec('text'), 'way': ArraySpec('discrete', (), 4)},
    ArraySpec('discrete', (), 7), 100)
MISSIONS = ('go', 'go to the red ball', 'open the door behind you and then go to the green key', 'wait')


@pytest.fixture(scope='module')
def tokenizer():
  text = train_text_tokenizer([f'{mission} {n}' for n in range(20) for mission in MISSIONS], 320)
  return SequenceTokenizer(Vocabulary(text_size=320, bins=64, discrete_size=16), text)


def model_settings():
  config = model_config()
  config.update(layers=2, width=32, heads=2, head_size=16, feed_forward=64, patch_channels=32, dtype='float32')
  return config


@pytest.fixture(scope='module')
def model(tokenizer):
  return Gato(model_settings(), tokenizer.vocabulary, rngs=nnx.Rngs(0))


@pytest.fixture(scope='module')
def parameters(model):
  return nnx.to_pure_dict(nnx.state(model))


def make_policy(model, tokenizer, task, *, batch_size=3, length=64, patches=32, window=0, hide=0.0, **acting):
  settings = acting_config()
  settings.update({'temperature': 0.0, 'prompt_share_of_row': 0.4, **acting})
  return Policy(
      engine_of(model), tokenizer, task, batch_size=batch_size, sequence_length=length, patches_per_row=patches,
      window_timesteps=window, hide_actions=hide, acting=settings)


def observe(task, rng):
  observation = {}
  for key, spec in task.observation.items():
    if spec.kind == 'continuous':
      observation[key] = rng.normal(size=spec.shape).astype(np.float32)
    elif spec.kind == 'image':
      observation[key] = rng.integers(0, 256, spec.shape).astype(np.uint8)
    elif spec.kind == 'discrete':
      observation[key] = np.int32(rng.integers(spec.num_values))
    else:
      observation[key] = MISSIONS[rng.integers(len(MISSIONS))]
  return observation


def act_randomly(task, rng):
  if task.action.kind == 'discrete':
    return np.int32(rng.integers(task.action.num_values))
  return rng.uniform(-1, 1, task.action.shape).astype(np.float32)


def as_episode(task, observations, actions):
  columns = {}
  for key, spec in task.observation.items():
    values = [observation[key] for observation in observations]
    columns[key] = values if spec.kind == 'text' else np.stack(values)
  actions = np.stack(actions)
  return ControlEpisode(columns, actions, actions, np.zeros(len(actions), np.float32), 0.0, True)


def demonstration(task, rng, length=12):
  return as_episode(
      task, [observe(task, rng) for _ in range(length)], [act_randomly(task, rng) for _ in range(length)])


def prompt_run(tokenizer, task, episode, tokens, patches):
  """The longest start of the episode that fits."""
  best = None
  for stop in range(1, episode.length + 1):
    run = tokenizer.timesteps(task, episode, 0, stop)
    if len(run) <= tokens and len(run.patches) <= patches:
      best = run
  return best


class Twin:
  """What one row should do, by one float64 pass over its whole episode in which each timestep looks at its context."""

  def __init__(self, tokenizer, task, prompt, *, length=64, patches=32, window=0, hide=False, keep=True):
    self.tokenizer, self.task, self.hide = tokenizer, task, hide
    self.length, self.patches, self.window = length, patches, window
    run = prompt and prompt_run(tokenizer, task, prompt, int(0.4 * length), int(0.4 * patches))
    self.prompt = run if run and keep else None
    self.lead = [run] if run and not keep else []
    if self.lead:  # its timesteps are the first of the episode
      count = next(n for n in range(1, prompt.length + 1) if len(tokenizer.timesteps(task, prompt, 0, n)) == len(run))
      self.lead = [tokenizer.timesteps(task, prompt, n, n + 1) for n in range(count)]
    self.steps = []

  def timesteps(self):
    if not self.steps:
      return self.lead
    episode = as_episode(self.task, *zip(*self.steps, strict=True))
    return self.lead + [self.tokenizer.timesteps(self.task, episode, t, t + 1, self.hide)
                        for t in range(len(self.steps))]

  def first_held(self, runs, t):
    """The earliest timestep that fits into the context of timestep t together with all in between."""
    for first in range(t + 1):
      held = runs[first:t + 1] + ([self.prompt] if self.prompt else [])
      tokens, patches = sum(map(len, held)), sum(len(run.patches) for run in held)
      if tokens <= self.length and patches <= self.patches and not 0 < self.window < t + 1 - first:
        return first
    raise AssertionError('does not fit')

  def check(self, parameters, config):
    """Each action token is the most likely one; returns how many timesteps were held at each of the row's."""
    runs, prompt = self.timesteps(), len(self.prompt) if self.prompt else 0
    ends = prompt + np.cumsum([0, *map(len, runs)])
    first = [self.first_held(runs, t) for t in range(len(runs))]
    owner = np.repeat(np.arange(len(runs)), [len(run) for run in runs])

    def sight(i):
      if i < prompt:
        return [(j, i - j) for j in range(i + 1)]
      start = ends[first[owner[i - prompt]]] if i >= sum(map(len, self.lead)) else 0
      near = [(j, i - j) for j in range(start, i + 1)]
      return [(j, i - j - (start - prompt)) for j in range(prompt)] + near

    run = concatenate([self.prompt, *runs] if self.prompt else runs)
    vocabulary = self.tokenizer.vocabulary
    table = np.float64(parameters['embedding']['tokens']['table'])
    x = numpy_gato.hidden_states(parameters, batch_of(run), config, vocabulary, table, [sight])[0]
    start, stop = vocabulary.action_ids(self.task.action)
    for end in ends[1 + len(self.lead):]:
      actions = slice(end - self.task.action.size, end)
      logits = x[actions.start - 1:actions.stop - 1] @ table[start:stop].T
      np.testing.assert_array_equal(logits.argmax(-1) + start, run.labels[actions])
    return [t + 1 - first[t] for t in range(len(self.lead), len(runs))]


def batch_of(run):
  inputs = lay_out([run], len(run), len(run.patches))
  nothing = np.zeros_like(inputs.tokens)
  return PackedBatch(
      inputs.tokens, nothing, nothing, nothing, nothing, inputs.local_positions, nothing, inputs.patches,
      inputs.patch_positions, inputs.patch_intervals)


@pytest.mark.parametrize(('task', 'prompted', 'hide', 'window', 'keep'), [
    (REACH, True, 0.0, 0, True),
    (REACH, True, 0.0, 0, False),
    (REACH, True, 1.0, 1, True),
    (REACH, False, 0.0, 1, True),
    (REACH, False, 1.0, 3, True),
    (LEVEL, True, 0.0, 3, True),
    (LEVEL, True, 1.0, 0, False),
    (LEVEL, False, 1.0, 1, True),
])
def test_actions_are_those_of_one_pass_over_the_whole_episode(
    model, tokenizer, parameters, task, prompted, hide, window, keep):
  rng = np.random.default_rng(window)
  batch_size = 2
  size = dict(length=64, patches=32) if task is REACH else dict(length=128, patches=24)
  policy = make_policy(
      model, tokenizer, task, batch_size=batch_size, window=window, hide=hide, keep_prompt=keep, **size)
  prompts = [demonstration(task, rng) if prompted else None for _ in range(batch_size)]
  twins = [Twin(tokenizer, task, prompt, window=window, hide=bool(hide), keep=keep, **size) for prompt in prompts]
  begin(policy, range(batch_size), prompts)
  for _ in range(14):
    observations = [observe(task, rng) for _ in range(batch_size)]
    for twin, *step in zip(twins, observations, policy.act(observations), strict=True):
      twin.steps.append(step)
  for twin in twins:
    held = twin.check(parameters, model_settings())
    assert max(held) == window or not window
    assert (np.diff(held) < 1).any()  # it has gone beyond its window


def test_a_goal_prompt_is_the_end_of_the_demonstration(model, tokenizer):
  rng = np.random.default_rng(0)
  episode = demonstration(LEVEL, rng)
  room = int(0.4 * 128), int(0.4 * 24)
  first, runs = prompt_steps(tokenizer, LEVEL, episode, *room, 'end')
  assert 0 < first < episode.length
  np.testing.assert_array_equal(
      concatenate(runs).tokens, tokenizer.timesteps(LEVEL, episode, first, episode.length).tokens)
  longer = tokenizer.timesteps(LEVEL, episode, first - 1, episode.length)
  assert len(longer) > room[0] or len(longer.patches) > room[1]
  end = ControlEpisode({key: values[first:] for key, values in episode.observation.items()}, episode.action[first:],
                       episode.action[first:], episode.reward[first:], 0.0, True)

  def actions_after(prompt, place):
    policy = make_policy(model, tokenizer, LEVEL, length=128, patches=24, temperature=1.0, prompt_from=place)
    return play(policy, LEVEL, [1, 2, 3], [prompt] * 3)

  actions = [actions_after(*settings) for settings in ((episode, 'end'), (end, 'start'), (episode, 'start'))]
  np.testing.assert_array_equal(actions[0], actions[1])
  assert (np.asarray(actions[0]) != np.asarray(actions[2])).any()
  with pytest.raises(InputError, match="acting.prompt_from is 'middle': must be one of start, end"):
    make_policy(model, tokenizer, LEVEL, prompt_from='middle')


def test_a_negative_temperature_is_an_error(model, tokenizer):
  with pytest.raises(InputError, match='acting.temperature is -1.0: must be 0 or positive'):
    make_policy(model, tokenizer, REACH, temperature=-1.0)


def begin(policy, seeds, prompts=None):
  for row, seed in enumerate(seeds):
    policy.start(row, seed, prompts and prompts[row])


def play(policy, task, seeds, prompts, steps=6):
  """Actions [T][B] on observations that depend on the row's seed alone."""
  begin(policy, seeds, prompts)
  rngs = [np.random.default_rng(seed) for seed in seeds]
  return [np.stack(policy.act([observe(task, rng) for rng in rngs])) for _ in range(steps)]


@pytest.mark.parametrize('prompted', [True, False])
def test_an_episode_may_start_while_its_neighbours_play(model, tokenizer, prompted):
  rng = np.random.default_rng(0)
  prompts = [demonstration(LEVEL, rng) if prompted else None for _ in range(2)]
  policy = make_policy(model, tokenizer, LEVEL, batch_size=2, length=128, patches=24, temperature=1.0)
  expected = play(policy, LEVEL, [5, 6], prompts, steps=8)
  begin(policy, [7, 6], prompts[::-1][:1] + prompts[1:])
  rngs = [np.random.default_rng(seed) for seed in (7, 6)]
  for step in range(11):
    if step == 3:
      policy.start(0, 5, prompts[0])
      rngs[0] = np.random.default_rng(5)
    ended = step >= 8
    actions = policy.act([observe(LEVEL, rngs[0]), None if ended else observe(LEVEL, rngs[1])])
    if step >= 3:
      np.testing.assert_array_equal(actions[0], expected[step - 3][0])
    if not ended:
      np.testing.assert_array_equal(actions[1], expected[step][1])


def test_a_batch_plays_as_each_of_its_rows_would_alone(model, tokenizer):
  task = LEVEL  # observations of different length
  rng = np.random.default_rng(0)
  prompts = [demonstration(task, rng) for _ in range(3)]
  settings = dict(length=128, patches=24, window=2, temperature=1.0)
  together = play(make_policy(model, tokenizer, task, batch_size=3, **settings), task, [5, 6, 7], prompts)
  alone = make_policy(model, tokenizer, task, batch_size=1, **settings)
  for row, seed in enumerate([5, 6, 7]):
    for step, actions in enumerate(play(alone, task, [seed], prompts[row : row + 1])):
      np.testing.assert_array_equal(actions[0], together[step][row])


def test_sampling_is_decided_by_the_seed_and_greedy_ignores_it(model, tokenizer):
  def actions(seed, temperature):
    policy = make_policy(model, tokenizer, REACH, temperature=temperature)
    begin(policy, [seed] * 3)
    rng = np.random.default_rng(0)
    return np.stack([policy.act([observe(REACH, rng)] * 3) for _ in range(3)])

  np.testing.assert_array_equal(actions(1, 1.0), actions(1, 1.0))
  assert (actions(1, 1.0) != actions(2, 1.0)).any()
  np.testing.assert_array_equal(actions(1, 0.0), actions(2, 0.0))
  assert len(np.unique(actions(1, 1.0)[:, 0], axis=0)) > 1  # each timestep has a draw of its own


def test_restricted_logits_never_leave_the_range_of_the_action(model, tokenizer):
  small = dataclasses.replace(LEVEL, action=ArraySpec('discrete', (), 3))
  seen = set()
  for restrict in (True, False):
    policy = make_policy(model, tokenizer, small, length=128, window=1, temperature=50.0, restrict_logits=restrict)
    begin(policy, [1, 2, 3])
    rng = np.random.default_rng(0)
    for _ in range(8):
      seen |= {int(action) for action in policy.act([observe(small, rng) for _ in range(3)])}
      if restrict:  # the token itself, not only what it is decoded to
        start, stop = tokenizer.vocabulary.action_ids(small.action)
        assert (start, stop) == policy._decoding[1:3]
  assert seen == {0, 1, 2}


def test_rows_that_ended_do_not_change_the_others(model, tokenizer):
  rng = np.random.default_rng(3)
  observations = [[observe(LEVEL, rng) for _ in range(3)] for _ in range(4)]

  def first_row(ended):
    policy = make_policy(model, tokenizer, LEVEL, length=128, patches=24)
    begin(policy, [1, 2, 3])
    return [policy.act([row[0], *([None] * 2 if ended and t else row[1:])])[0] for t, row in enumerate(observations)]

  assert first_row(True) == first_row(False)


def test_equal_shapes_are_compiled_once(model, tokenizer):
  def compilations():
    return policy._engine._decode._cache_size()

  policy = make_policy(model, tokenizer, REACH, window=1)
  play(policy, REACH, [1, 2, 3], None)
  before = compilations()
  play(policy, REACH, [4, 5, 6], None)
  other = dataclasses.replace(REACH, name='robot/push')
  play(make_policy(model, tokenizer, other, window=1), other, [1, 2, 3], None)
  assert compilations() == before


def test_a_timestep_that_cannot_fit_is_an_error_that_says_what_to_do(model, tokenizer):
  policy = make_policy(model, tokenizer, REACH, length=5)
  begin(policy, [0, 0, 0])
  with pytest.raises(InputError, match='robot/reach: a timestep of 6 tokens.*data.sequence_length=5'):
    policy.act([observe(REACH, np.random.default_rng(0))] * 3)


@pytest.mark.parametrize(('asked', 'hidden_share', 'parallel'), [
    ('auto', 1.0, True), ('auto', 0.5, False), ('yes', 0.5, True), ('no', 0.5, False), ('no', 0.0, False)])
def test_actions_come_in_parallel_where_training_showed_it(model, tokenizer, asked, hidden_share, parallel):
  policy = make_policy(model, tokenizer, REACH, hide=hidden_share, parallel_action_tokens=asked)
  assert (policy._decoding.hidden_id is not None) == parallel


@pytest.mark.parametrize(('asked', 'hidden_share', 'message'), [
    ('yes', 0.0, "is 'yes', but robot/reach was trained with hide_actions=0.0.*set it to auto"),
    ('no', 1.0, "is 'no', but robot/reach was trained with hide_actions=1.0.*set it to auto"),
    ('on', 1.0, "is 'on': must be one of auto, yes, no")])
def test_parallel_actions_that_training_never_showed_are_an_error(model, tokenizer, asked, hidden_share, message):
  with pytest.raises(InputError, match=message):
    make_policy(model, tokenizer, REACH, hide=hidden_share, parallel_action_tokens=asked)

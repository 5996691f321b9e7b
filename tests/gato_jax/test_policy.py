"""The policy against a forward pass over the whole context, rebuilt from scratch by an independent rule."""

import dataclasses

from flax import nnx
import jax
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
from gato_jax.acting.inputs import lay_out
from gato_jax.acting.policy import Policy
from gato_jax.config import acting_config, model_config
from gato_jax.model.gato import Gato

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


@pytest.fixture(scope='module')
def model(tokenizer):
  config = model_config()
  config.update(layers=2, width=32, heads=2, head_size=16, feed_forward=64, patch_channels=32, dtype='float32')
  return Gato(config, tokenizer.vocabulary, rngs=nnx.Rngs(0))


@pytest.fixture(scope='module')
def forward(model):
  """float32 [n, V] logits of a run of n tokens."""
  graphdef, state = nnx.split(model)

  @jax.jit
  def call(state, batch):
    model = nnx.merge(graphdef, state)
    return model.logits(model(batch))

  def logits(run):
    inputs = lay_out([run], [0], 128, 64)
    nothing = np.zeros_like(inputs.tokens)
    batch = PackedBatch(
        inputs.tokens, nothing, nothing.astype(np.float32), inputs.valid.astype(np.int32), inputs.positions,
        inputs.local_positions, nothing, inputs.patches, inputs.patch_positions, inputs.patch_intervals)
    return np.asarray(call(state, batch))[0, : len(run)]

  return logits


def make_policy(model, tokenizer, task, *, batch_size=3, length=64, patches=32, window=0, hide=0.0, **acting):
  settings = acting_config()
  settings.update({'temperature': 0.0, 'prompt_share_of_row': 0.4, **acting})
  return Policy(
      model, tokenizer, task, batch_size=batch_size, sequence_length=length, patches_per_row=patches,
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


class Scratch:
  """What one row should do, with every timestep's context tokenized and read anew."""

  def __init__(self, tokenizer, forward, task, prompt, *, length=64, patches=32, window=0, hide=False):
    self.tokenizer, self.forward, self.task, self.hide = tokenizer, forward, task, hide
    self.prompt = prompt and prompt_run(tokenizer, task, prompt, int(0.4 * length), int(0.4 * patches))
    self.length, self.patches, self.window = length, patches, window
    self.held = []

  def run(self, steps):
    runs = [self.prompt] if self.prompt else []
    if steps:
      runs.append(self.tokenizer.timesteps(self.task, as_episode(self.task, *zip(*steps, strict=True)), 0, len(steps),
                                           self.hide))
    return concatenate(runs)

  def check(self, observation, action):
    """Each of the action's tokens is the most likely one given the context and the tokens before it."""
    while True:
      run = self.run([*self.held, (observation, action)])
      too_many = self.window and len(self.held) + 1 > self.window
      if not too_many and len(run) <= self.length and len(run.patches) <= self.patches:
        break
      self.held = self.held[len(self.held) - len(self.held) // 2 :]
    size = self.task.action.size
    start, stop = self.tokenizer.vocabulary.action_ids(self.task.action)
    logits = self.forward(run)[-size - 1 : -1, start:stop]
    np.testing.assert_array_equal(logits.argmax(-1) + start, run.labels[-size:])
    self.held.append((observation, action))
    return len(self.held)


@pytest.mark.parametrize(('task', 'prompted', 'hide', 'window'), [
    (REACH, True, 0.0, 0),
    (REACH, True, 1.0, 1),
    (REACH, False, 0.0, 1),
    (REACH, False, 1.0, 3),
    (LEVEL, True, 0.0, 3),
    (LEVEL, True, 1.0, 0),
    (LEVEL, False, 1.0, 1),
])
def test_actions_are_those_of_a_forward_pass_over_the_whole_context(
    model, tokenizer, forward, task, prompted, hide, window):
  rng = np.random.default_rng(window)
  batch_size = 3
  size = dict(length=64, patches=32) if task is REACH else dict(length=128, patches=24)
  policy = make_policy(model, tokenizer, task, batch_size=batch_size, window=window, hide=hide, **size)
  prompts = [demonstration(task, rng) for _ in range(batch_size)] if prompted else None
  policy.reset(list(range(batch_size)), prompts)
  rows = [
      Scratch(tokenizer, forward, task, prompts and prompts[row], window=window, hide=bool(hide), **size)
      for row in range(batch_size)
  ]
  held = []
  for _ in range(14):
    observations = [observe(task, rng) for _ in range(batch_size)]
    actions = policy.act(observations)
    held.append([row.check(*pair) for row, pair in zip(rows, zip(observations, actions, strict=True), strict=True)])
  held = np.array(held)
  assert (np.diff(held, axis=0) < 1).any(axis=0).all()  # every row has gone beyond its window
  assert held.max() == window or not window


def play(policy, task, seeds, prompts, steps=6, rows=None):
  """Actions [T][B] on observations that depend on the row's seed alone."""
  policy.reset(seeds, prompts)
  rngs = [np.random.default_rng(seed) for seed in seeds]
  return [np.stack(policy.act([observe(task, rng) for rng in rngs])) for _ in range(steps)]


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
    policy.reset([seed] * 3)
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
    policy.reset([1, 2, 3])
    rng = np.random.default_rng(0)
    for _ in range(8):
      seen |= {int(action) for action in policy.act([observe(small, rng) for _ in range(3)])}
      if restrict:  # the token itself, not only what it is decoded to
        start, stop = tokenizer.vocabulary.action_ids(small.action)
        assert all(start <= row.timesteps[-1].labels[-1] < stop for row in policy._rows)
  assert seen == {0, 1, 2}


def test_rows_that_ended_do_not_change_the_others(model, tokenizer):
  rng = np.random.default_rng(3)
  observations = [[observe(LEVEL, rng) for _ in range(3)] for _ in range(4)]

  def first_row(ended):
    policy = make_policy(model, tokenizer, LEVEL, length=128, patches=24)
    policy.reset([1, 2, 3])
    return [policy.act([row[0], *([None] * 2 if ended and t else row[1:])])[0] for t, row in enumerate(observations)]

  assert first_row(True) == first_row(False)


def test_equal_shapes_are_compiled_once(model, tokenizer):
  def compilations():
    return policy._compiled.decode._cache_size()

  policy = make_policy(model, tokenizer, REACH, window=1)
  play(policy, REACH, [1, 2, 3], None)
  before = compilations()
  play(policy, REACH, [4, 5, 6], None)
  other = dataclasses.replace(REACH, name='robot/push')
  play(make_policy(model, tokenizer, other, window=1), other, [1, 2, 3], None)
  assert compilations() == before


def test_a_timestep_that_cannot_fit_is_an_error_that_says_what_to_do(model, tokenizer):
  policy = make_policy(model, tokenizer, REACH, length=5)
  policy.reset([0])
  with pytest.raises(InputError, match='robot/reach: a timestep of 6 tokens.*data.sequence_length=5'):
    policy.act([observe(REACH, np.random.default_rng(0))])
  with pytest.raises(InputError, match='4 episodes for a policy of batch size 3'):
    policy.reset([0, 1, 2, 3])

"""The server on loopback: many sessions at once, each as if alone; and clients that send what they should not."""

import asyncio
import concurrent.futures
import contextlib
import json
import time
import urllib.request

from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from data_pipelines.environments.specs import ArraySpec, TaskSpec
from data_pipelines.errors import InputError
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.tokenization.text import train_text_tokenizer
from data_pipelines.tokenization.vocabulary import Vocabulary
from gato_jax.acting.engine import engine_of
from gato_jax.acting.policy import Policy
from gato_jax.agent import Agent
from gato_jax.config import default_config
from gato_jax.export.tasks import KnownTask
from gato_jax.model.gato import Gato
from gato_jax.serving.client import Refused, Session
from gato_jax.serving.messages import read_message, read_observation, read_spec
from gato_jax.serving.server import Limits, Server, in_background, run

REACH = TaskSpec('robot/reach', 'robot', {'joints': ArraySpec('continuous', (3,)), 'word': ArraySpec('text')},
                 ArraySpec('continuous', (2,)), 100)


@pytest.fixture(scope='module')
def agent():
  vocabulary = Vocabulary(text_size=300, bins=64, discrete_size=16)
  tokenizer = SequenceTokenizer(vocabulary, train_text_tokenizer(['to and fro, round and round'] * 9, 300))
  config = default_config()
  config.data.update(sequence_length=64, patches_per_row=8)
  config.model.update(layers=1, width=32, heads=2, head_size=16, feed_forward=64, patch_channels=32)
  model = Gato(config.model, vocabulary, rngs=nnx.Rngs(0))
  return Agent(engine_of(model), tokenizer, config, {'robot/reach': KnownTask(REACH)}, None, 7)


def serving(agent, token='', **limits):
  """The server in a thread of its own: its address, and itself."""
  return in_background(agent, Limits(**limits), token)


def observations(number, count=5):
  rng = np.random.default_rng(number)
  return [{'joints': rng.uniform(-1, 1, 3).astype(np.float32), 'word': 'fro' * (1 + number % 2)} for _ in range(count)]


def alone(agent, number):
  """The actions of a policy of one row."""
  policy = agent.policy(task='robot/reach', seed=number)
  return np.stack([policy.act(observation) for observation in observations(number)])


def played(address, number):
  with Session(address, 'robot/reach', seed=number) as session:
    return np.stack([session.act(observation) for observation in observations(number)])


def test_sessions_are_as_if_alone(agent):
  """Twelve at once over lanes of four: none lost, none mixed up."""
  with serving(agent, batch=4) as (address, server):
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
      actions = list(pool.map(lambda number: played(address, number), range(12)))
    assert (server.counts.sessions, server.counts.actions, server.counts.errors) == (12, 60, 0)
  for number, action in enumerate(actions):
    np.testing.assert_array_equal(action, alone(agent, number))


def test_a_start_that_fails_is_raised(agent):
  with pytest.raises(TypeError), serving(agent, wait_ms=None):
    pass


def test_a_robot_is_told_what_its_actions_stand_for(agent, monkeypatch):
  monkeypatch.setitem(agent.tasks, 'logs', KnownTask(REACH, action_bounds=((-4.0, 0.0), (4.0, 1.0))))
  with serving(agent, batch=1) as (address, _):
    for task, bounds in (('logs', [[-4.0, 0.0], [4.0, 1.0]]), ('robot/reach', None)):
      with Session(address, task) as session:
        assert session.opened['action_bounds'] == bounds


def test_an_episode_after_another_and_an_unseen_environment(agent):
  with serving(agent, batch=1) as (address, _):
    with Session(address, 'robot/reach', seed=3) as session:
      assert session.opened['action'] == {'kind': 'continuous', 'shape': [2], 'num_values': 0}
      first = [session.act(observation) for observation in observations(3)]
      session.reset(3)
      again = [session.act(observation) for observation in observations(3)]
      np.testing.assert_array_equal(first, again)
      assert session.milliseconds > 0
    seen = {'eye': {'kind': 'image', 'shape': [16, 16, 3]}, 'way': {'kind': 'discrete', 'num_values': 4}}
    with Session(address, observation=seen, action={'kind': 'discrete', 'num_values': 3}) as session:
      action = session.act({'eye': np.zeros((16, 16, 3), np.uint8), 'way': 3})
      assert action.dtype == np.int32 and 0 <= action < 3


def test_a_period_that_is_missed_is_counted(agent):
  """The server waits 30 ms for the other session, which never asks: longer than one period, shorter than the other."""
  with serving(agent, batch=2, wait_ms=30) as (address, server):
    task = 'robot/reach'
    with Session(address, task, period_ms=10) as short, Session(address, task, period_ms=60_000) as long:
      short.act(observations(0)[0])
      assert (short.late, server.counts.late) == (True, 1)
      long.act(observations(0)[0])
      assert (long.late, server.counts.late) == (False, 1)


@pytest.mark.parametrize(('message', 'words'), [
    ({'joints': [0, 0], 'word': 'to'}, 'must have the shape'),
    ({'joints': [0, 0, float('nan')], 'word': 'to'}, 'not finite'),
    ({'joints': [0, 0, 0]}, 'has keys'),
    ({'joints': [0, 0, 0], 'word': 3}, 'not text'),
    ({'joints': [0, 0, 0], 'word': '\ud800'}, 'not text'),
    ({'joints': [0, 0, 0], 'word': 'x' * 20_000}, 'not text of at most'),
    ({'joints': ['a' * 1000, '', ''], 'word': 'to'}, "observation 'joints': "),
    ({'joints': [0, 0, 0], 'word': 'to', 'more': 1}, "no observation 'more'"),
    ({'joints': {'dtype': 'O', 'shape': [3], 'data': ''}, 'word': 'to'}, "dtype is 'O'"),
    ({'joints': {'dtype': '<f4', 'shape': [2**40], 'data': ''}, 'word': 'to'}, '0 bytes for'),
    ({'joints': {'dtype': '<f4', 'shape': [3], 'data': '!'}, 'word': 'to'}, "observation 'joints': "),
    ({'joints': [0, 0, 0], 'word': 'fro ' * 100}, 'does not fit'),
])
def test_a_bad_observation_hurts_nobody_else(agent, message, words):
  with serving(agent, batch=2) as (address, _):
    with Session(address, 'robot/reach', seed=1) as good, Session(address, 'robot/reach', seed=2) as bad:
      with concurrent.futures.ThreadPoolExecutor(2) as pool:
        refused = pool.submit(bad._ask, {'type': 'act', 'observation': message})
        actions = [good.act(observation) for observation in observations(1)]
        with pytest.raises(Refused, match=words):
          refused.result()
      np.testing.assert_array_equal(actions, alone(agent, 1))
      bad.act(observations(2)[0])  # and its own session goes on


@pytest.mark.parametrize('value', [256, -1, 0.5, float('nan')])
def test_numbers_that_are_no_pixels_are_not_wrapped_round(value):
  spec = TaskSpec('robot/see', 'robot', {'eye': ArraySpec('image', (1, 1, 3))}, REACH.action, 100)
  assert read_observation(spec, {'observation': {'eye': [[[0, 7.0, 255]]]}})['eye'].tolist() == [[[0, 7, 255]]]
  with pytest.raises(InputError, match='values that are no uint8'):
    read_observation(spec, {'observation': {'eye': [[[0, 7, value]]]}})


def test_an_observation_too_large_to_count_is_too_large():
  """2**64 values are 0 to a machine's integers."""
  huge = {'joints': {'kind': 'continuous', 'shape': [2**16] * 4}}
  with pytest.raises(InputError, match='at most 1,000 values'):
    read_spec({'observation': huge, 'action': {'kind': 'discrete', 'num_values': 3}}, 1000)


def test_a_session_that_dies_gives_its_place_back(agent):
  with serving(agent, sessions=2, batch=2) as (address, server):
    for _ in range(5):
      connection = connect(address)
      connection.send(json.dumps({'type': 'open', 'task': 'robot/reach'}))
      connection.recv()
      connection.send(json.dumps({'type': 'act', 'observation': {'joints': [0, 0, 0], 'word': 'to'}}))
      connection.socket.close()  # without a word, while it is being answered
    with pytest.raises(Refused, match='fit'), Session(address, 'robot/reach') as session:
      session.act({'joints': np.zeros(3), 'word': 'fro ' * 100})
    np.testing.assert_array_equal(played(address, 4), alone(agent, 4))
    assert server.counts.sessions == 7


def test_a_model_that_fails_takes_its_rows_out_of_use(agent, monkeypatch):
  def fail(*_):
    raise RuntimeError('out of memory')

  with serving(agent, batch=2) as (address, server), Session(address, 'robot/reach'):
    with monkeypatch.context() as broken, pytest.raises(Refused, match='the model failed .out of memory.'):
      broken.setattr(Policy, 'start', fail)
      Session(address, 'robot/reach')
    with Session(address, 'robot/reach'):
      assert server._lanes.count(lambda task: True) == 2
    np.testing.assert_array_equal(played(address, 4), alone(agent, 4))


def test_limits(agent):
  with serving(agent, sessions=1, message_bytes=1000, batch=1, idle=0.5, values=100) as (address, _):
    with connect(address) as first:
      with pytest.raises(InvalidStatus):
        connect(address)
      first.send(json.dumps({'type': 'open', 'observation': {'eye': {'kind': 'image', 'shape': [16, 16, 3]}},
                             'action': {'kind': 'discrete', 'num_values': 3}}))
      assert 'at most 100 values' in json.loads(first.recv())['message']
      first.send('x' * 2000)
      with pytest.raises(ConnectionClosed):
        first.recv()
    with connect(address) as silent, pytest.raises(ConnectionClosed, match='no message for 0.5 s'):
      silent.recv()


def test_many_at_once_do_not_get_past_a_limit(agent):
  message = {'type': 'open', 'observation': {'way': {'kind': 'discrete', 'num_values': 4}},
             'action': {'kind': 'discrete', 'num_values': 3}}

  async def open_all():
    server = Server(agent, Limits(unseen=1))
    return await asyncio.gather(*(server._opened(None, message) for _ in range(3)), return_exceptions=True)

  opened = asyncio.run(open_all())
  assert sum(isinstance(answer, InputError) and 'no room for more' in str(answer) for answer in opened) == 2
  assert [answer.prompts for answer in opened if not isinstance(answer, Exception)] == [[]]


def test_a_token_is_asked_for(agent):
  with serving(agent, token='secret') as (address, _):
    for token in ('', 'wrong'):
      with pytest.raises(InvalidStatus, match='401'):
        Session(address, 'robot/reach', token=token)
    with Session(address, 'robot/reach', token='secret') as session:
      session.act(observations(0)[0])
  with pytest.raises(InputError, match='GATO_JAX_TOKEN'):
    run(agent, '0.0.0.0', 0, Limits(), '')


def test_a_web_page_cannot_reach_it_and_whoever_asks_is_told(agent):
  with serving(agent) as (address, _):
    with pytest.raises(InvalidStatus, match='403'):
      connect(address, origin='https://example.org')
    with urllib.request.urlopen(address.replace('ws', 'http')) as answer:
      status = json.loads(answer.read())
    assert status['tasks'] == ['robot/reach'] and status['limits']['sessions'] == 64


def test_too_many_messages_wait(agent):
  with serving(agent, rate=20, batch=1) as (address, _), connect(address) as connection:
    began = time.monotonic()
    for _ in range(40):
      connection.send('[]')
      assert json.loads(connection.recv())['type'] == 'error'
    assert time.monotonic() - began >= 0.9  # the first second's worth comes at once


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(['type', 'task', 'observation', 'action', 'kind', 'shape', 'dtype', 'data', 'joints', 'word']),
        inner, max_size=4), max_leaves=12)


@settings(max_examples=300)
@given(JSON)
def test_whatever_is_said_is_an_observation_or_an_input_error(content):
  with contextlib.suppress(InputError):
    message = read_message(json.dumps(content))
    with contextlib.suppress(InputError):
      read_spec(message, 1000)
    observation = read_observation(REACH, message)
    assert observation.keys() == {'joints', 'word'} and observation['joints'].shape == (3,)


@settings(max_examples=100)
@given(st.binary(max_size=200) | st.text(max_size=200))
def test_whatever_comes_in_is_a_message_or_an_input_error(data):
  with contextlib.suppress(InputError):
    assert isinstance(read_message(data)['type'], str)

"""Start-up: processes that find each other and agree, as threads of this one, over real connections."""

import concurrent.futures
import socket
import time

import pytest

from data_pipelines.errors import InputError
from gato_jax import group as group_module
from gato_jax.config import default_config
from gato_jax.distributed import compare, digest
from gato_jax.group import Group, LostProcess, Peer
from gato_jax.roll_call import call_the_roll


@pytest.fixture(scope='session', autouse=True)
def no_end():
  """A failure ends the process after a while, but these are threads of pytest's, and some outlive their test."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(group_module, 'GRACE', 1e6)
    yield


def free_port():
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]


def facts(seed=0, workdir='runs/a', jax='0.10.2'):
  config = default_config().unlock()
  config.seed = seed
  return {'config': config.to_dict(), 'digest': digest(config.to_dict()), 'workdir': workdir, 'versions': {'jax': jax}}


def roll(members, count, timeout=5.0):
  """Calls the roll in a thread a member, (index, facts, clock); returns groups or the errors they got."""
  address = f'127.0.0.1:{free_port()}'

  def member(index, mine, clock):
    try:
      return call_the_roll(address, index, count, mine, compare, timeout, clock)
    except InputError as error:
      return str(error)

  with concurrent.futures.ThreadPoolExecutor(len(members)) as pool:
    return list(pool.map(lambda arguments: member(*arguments), members))


def three(**settings):
  return roll([(index, facts(**settings), time.time) for index in range(3)], 3)


def test_all_there_and_agreed():
  groups = three()
  assert [group.index for group in groups] == [0, 1, 2]
  with concurrent.futures.ThreadPoolExecutor(3) as pool:
    for name in ('restore', 'restore', 'other'):
      gathered = list(pool.map(lambda group, name=name: group.gather(name, [group.index, 'x'], 5), groups))
      assert gathered == [[[0, 'x'], [1, 'x'], [2, 'x']]] * 3
    assert list(pool.map(lambda group: group.first('step', group.index + 7, 5), groups)) == [7] * 3
    list(pool.map(Group.close, groups))
  for group in groups:
    group.check()


@pytest.mark.parametrize(('changes', 'words'), [
    ({'seed': 3}, ('process 1', 'another config', 'seed: 0 -> 3', digest(facts()['config']))),
    ({'jax': '0.9.0'}, ('process 1', 'versions', '0.9.0')),
    ({'workdir': 'runs/b'}, ('process 1', 'workdir', 'runs/b')),
])
def test_processes_that_differ_all_get_the_same_message(changes, words):
  messages = roll([(0, facts(), time.time), (1, facts(**changes), time.time), (2, facts(), time.time)], 3)
  assert len(set(messages)) == 1
  assert all(word in messages[0] for word in words), messages[0]
  assert messages[0].count('->') == ('seed' in changes)  # nothing but what differs


def test_absent_processes_are_named_to_those_who_came():
  messages = roll([(0, facts(), time.time), (2, facts(), time.time)], 4, timeout=1.0)
  assert messages[0] == messages[1]
  assert '2 of 4 processes' in messages[0] and 'absent: process 1, 3' in messages[0]


def test_a_process_that_comes_and_goes_away_is_named_to_the_others():
  port = free_port()
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    first = pool.submit(call_the_roll, f'127.0.0.1:{port}', 0, 3, facts(), compare, 60.0)
    gone = Peer(connected(port))
    gone.send({'kind': 'hello', 'index': 2, 'count': 3, 'name': 'host-2', 'facts': facts()})
    gone.close()
    second = pool.submit(call_the_roll, f'127.0.0.1:{port}', 1, 3, facts(), compare, 60.0)
    for call in (first, second):
      with pytest.raises(InputError, match=r'process 2 \(host-2\) came and went away'):
        call.result()


def connected(port):
  deadline = time.monotonic() + 30
  while True:
    try:
      return socket.create_connection(('127.0.0.1', port))
    except ConnectionRefusedError:
      assert time.monotonic() < deadline


def test_no_coordinator():
  began = time.monotonic()
  with pytest.raises(InputError, match='process 1 could not reach the coordinator, process 0 at 127.0.0.1'):
    call_the_roll(f'127.0.0.1:{free_port()}', 1, 2, {}, compare, -9.0)
  assert time.monotonic() - began < 5


def test_clocks_that_disagree():
  messages = roll([(0, facts(), time.time), (1, facts(), lambda: time.time() + 3600)], 2)
  assert messages[0] == messages[1] and '3,600 s ahead of process 0' in messages[0]


def test_two_of_one_number_and_another_count():
  messages = roll([(0, facts(), time.time), (1, facts(), time.time), (1, facts(), time.time)], 3)
  assert 'two processes say that they are process 1' in messages[0]
  address = f'127.0.0.1:{free_port()}'
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    calls = [pool.submit(call_the_roll, address, index, count, facts(), compare, 5.0)
             for index, count in ((0, 2), (1, 3))]
    for call in calls:
      with pytest.raises(InputError, match='told of 3 processes, process 0 of 2'):
        call.result()


def test_a_port_in_use():
  with socket.socket() as other:
    other.bind(('', 0))
    other.listen()
    with pytest.raises(InputError, match='cannot listen on port'):
      call_the_roll(f'127.0.0.1:{other.getsockname()[1]}', 0, 2, {}, compare, 1.0)


def test_a_failure_is_everybodys():
  groups = three()
  groups[2].fail(InputError('the disk is full'))
  for group in groups[:2]:
    with pytest.raises(InputError, match=r'process 2 \(.*\): the disk is full'):
      group.gather('never', None, 5)
    with pytest.raises(InputError, match='the disk is full'):
      group.check()


def test_a_process_that_goes_away_is_named():
  groups = three()
  groups[1]._peers[0].close()
  for group in (groups[0], groups[2]):
    with pytest.raises(LostProcess, match=r'process 1 \(.*\) is gone'):
      group.gather('never', None, 5)


def test_a_process_that_does_not_come_is_named():
  groups = three()
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    for call in [pool.submit(group.gather, 'restore', None, 0.5) for group in groups[:2]]:
      with pytest.raises(LostProcess, match=r'waited 0 s at "restore 1" for process 2'):
        call.result()


def test_alone():
  group = Group()
  assert group.gather('x', 3, 0) == [3] and group.first('x', 4, 0) == 4
  group.fail(InputError('x'))
  group.check()
  group.close()

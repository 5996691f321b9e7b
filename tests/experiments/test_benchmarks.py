"""The benchmarks, on settings small enough to say nothing but that they measure."""

import json

import pytest

from data_pipelines.datasets.prepare import prepare
from experiments.benchmarks import acting, loader, rollouts
from gato_jax.config import default_config, mixture_entry


@pytest.fixture
def config(tmp_path):
  pytest.importorskip('gymnasium')
  pytest.importorskip('sklearn')
  result = default_config()
  with result.unlocked():
    result.data.mixture = {'classic_control': mixture_entry(1.0, tasks=('CartPole-v1',), episodes=3),
                           'digits': mixture_entry(1.0, episodes=40)}
  result.data.dir = str(tmp_path)
  result.data.vocabulary.update(text_size=400, discrete_overlaps_text=False)
  prepare(result.data, workers=1)
  return result


def test_longer_datasets_have_as_many_more_episodes(config, tmp_path):
  folder = str(tmp_path / 'longer')
  loader.make_longer_indexes(config.data, 10, folder)
  one, ten = (loader.measure(config.data, ['classic_control', 'digits'], times, folder, 0.1) for times in (1, 10))
  assert (one['episodes'], ten['episodes']) == (43, 430)
  assert min(one['tokens_per_second'], ten['tokens_per_second']) > 0
  assert one['position_fill'] > 0.5 and ten['peak_megabytes'] > 10


def test_a_loader_of_processes_is_measured_on_the_clock(config):
  config.data.read_processes = 1
  result = loader.measure(config.data, ['digits'], 1, '', 0.5)  # of its own CPU time it has next to none
  assert min(result['tokens_per_second'], result['wall_tokens_per_second']) > 0 and result['position_fill'] > 0.5


@pytest.mark.slow
def test_groups_and_the_whole_in_one_line(config, capsys):
  loader.main(config, seconds=0.1)
  result = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert set(result['datasets']) == {'state', 'pictures', 'whole', 'whole_longer'}
  assert result['datasets']['state']['episodes'] == 3 and result['datasets']['pictures']['episodes'] == 40


@pytest.fixture
def small():
  result = default_config()
  result.data.update(sequence_length=64, patches_per_row=4)
  result.data.vocabulary.update(text_size=400, discrete_size=100)
  result.model.update(layers=2, width=64, heads=2, feed_forward=128)
  return result


@pytest.mark.parametrize('dtype', acting.DTYPES)
def test_a_token_is_measured_against_the_window_and_the_memory(small, dtype):
  result = acting.measure_token(small, dtype, turns=2)
  assert result['parameters'] > 64 * 400
  costs = [result[name]['cpu_seconds_per_step'] for name in ('token', 'window', 'memory_read')]
  assert min(costs) > 0
  assert min(result['ratio_to_window'], result['ratio_to_memory_read']) > 0


def test_sessions_are_compared_with_themselves_alone_and_an_action_with_the_weights(small):
  pytest.importorskip('websockets')
  from experiments.benchmarks import serving
  from gato_jax.serving.server import Limits, in_background

  act = serving.measure_act(small, turns=2)
  assert act['passes'] == 5 and min(act.values()) > 0
  agent, _ = serving.make_agent(small)
  with in_background(agent, Limits(batch=2)) as (address, _):
    alone = {seed: serving.ask(address, [seed], 2)[0] for seed in range(2)}
    answers = serving.ask(address, [0, 1], 3)
  result = serving.summary(answers, alone, 2.0, 1e-3)
  assert (result['mixed_up'], result['actions_per_second']) == (0, 3)
  assert result['p99_milliseconds'] >= result['p50_milliseconds'] > 0 and result['p50_ratio_to_bound'] > 1
  assert serving.summary(answers[::-1], alone, 2.0, 1e-3)['mixed_up'] == 2


def test_rollouts_are_measured_with_and_without_workers(small, tmp_path):
  pytest.importorskip('dm_control')
  runs = []
  for workers in (0, 1):
    result = rollouts.measure(small, 2, workers, steps=5)
    assert 0 < result['policy_cpu_seconds'] <= result['here_cpu_seconds']
    assert result['steps_per_second_own_cores'] > 0 and result['steps_per_second'] > 0
    runs.append({'environments': 2, 'workers': workers, **result})
  assert runs[0]['workers_cpu_seconds'] == 0
  rollouts.draw({'runs': runs}, tmp_path / 'picture.png')
  assert (tmp_path / 'picture.png').stat().st_size > 1000

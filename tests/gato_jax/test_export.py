"""Export: what comes back is what was trained, for others too; and nothing that comes in can do harm."""

import contextlib
import json
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import tracemalloc

from flax import nnx
import gymnasium
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from data_pipelines.datasets.prepare import prepare
from data_pipelines.environments.specs import ArraySpec, TaskSpec
from data_pipelines.errors import InputError
from gato_jax import load
from gato_jax.agent import _Spaces
from gato_jax.config import default_config, mixture_entry
from gato_jax.evaluation.language import LanguageScores
from gato_jax.evaluation.report import build_report, write_report
from gato_jax.evaluation.report_files import FOLDER, REPORT, step_folder
from gato_jax.evaluation.scores import task_score
from gato_jax.export import runner
from gato_jax.export.card import model_card
from gato_jax.export.config import FILE as CONFIG
from gato_jax.export.export import export
from gato_jax.export.loading import load_export
from gato_jax.export.tasks import FILE as TASKS
from gato_jax.export.tasks import KnownTask, read_prompts, read_tasks
from gato_jax.export.weights import INDEX, write_weights
from gato_jax.model.cache import TokenInputs
from gato_jax.model.decoder import Decoder
from gato_jax.training.loop import train
from gato_jax.training.restore import load_trained
from tests.gato_jax.test_evaluate import TASKS as NAMES
from tests.gato_jax.training_cases import small_config

ROOT = pathlib.Path(__file__).parents[2]
CARTPOLE = 'classic_control/CartPole-v1'


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  """Of a run of two steps."""
  folder = tmp_path_factory.mktemp('run')
  mixture = {'classic_control': mixture_entry(1.0, tasks=NAMES, episodes=3), 'digits': mixture_entry(0.5)}
  config = small_config(folder, mixture, sequence_length=64, patches_per_row=16)
  config.model.update(layers=2, feed_forward=64, value_features=8)
  config.training.schedule.update(warmup_steps=1, peak=1e-2)
  prepare(config.data, workers=1)
  train(config, str(folder / 'run'))
  return str(folder / 'run')


@pytest.fixture(scope='module')
def folder(workdir, tmp_path_factory):
  return export(workdir, str(tmp_path_factory.mktemp('export')), shard_megabytes=0)  # an empty folder


@pytest.fixture
def spoilt(folder, tmp_path):
  return pathlib.Path(shutil.copytree(folder, tmp_path / 'spoilt'))


def leaves(trained):
  return {jax.tree_util.keystr(path): np.asarray(leaf)
          for path, leaf in jax.tree.leaves_with_path(nnx.to_pure_dict(nnx.state(trained.model)))}


def test_weights_come_back_to_the_bit(workdir, folder):
  want, got = leaves(load_trained(workdir)), leaves(load_export(folder))
  assert got.keys() == want.keys()
  for name, array in want.items():
    assert array.dtype == got[name].dtype == np.float32
    np.testing.assert_array_equal(got[name], array, err_msg=name)


def test_bfloat16_is_rounded_once(workdir, folder, tmp_path):
  half = export(workdir, str(tmp_path / 'half'), dtype='bfloat16', prompts=0, programs=False)
  want = leaves(load_trained(workdir))
  for name, array in leaves(load_export(half)).items():
    np.testing.assert_array_equal(array, want[name].astype(jax.numpy.bfloat16), err_msg=name)

  def size(path):
    return sum(file.stat().st_size for file in path.glob('model-*'))

  assert size(half) < 0.75 * size(folder)


def test_a_file_holds_no_more_than_it_may():
  shapes = {name: (25, 10) for name in 'abcdef'} | {'large': (1000,)}  # 1,000 bytes each, and 4,000
  read = []

  def give(names):
    read.append(list(names))
    return {name: np.zeros(shapes[name], np.float32) for name in names}

  with tempfile.TemporaryDirectory() as out:
    assert write_weights(pathlib.Path(out), shapes, give, 'float32', 2500) == 10_000
    assert read == [['a', 'b'], ['c', 'd'], ['e', 'f'], ['large']]
    index = json.loads((pathlib.Path(out) / INDEX).read_text())
    assert index['weight_map']['large'] == 'model-00004-of-00004.safetensors'
    assert index['metadata']['total_size'] == 10_000


def test_the_folder_says_nothing_of_the_machine(workdir, folder):
  for path in folder.rglob('*.*'):
    assert str(pathlib.Path(workdir).parent).encode() not in path.read_bytes(), path
  card = (folder / 'README.md').read_text()
  assert 'classic_control | 66.7% |' in card and 'Apache-2.0' in card
  task = json.loads((folder / TASKS).read_text())[CARTPOLE]
  assert task['expert'] == 500 and task['spec']['action']['num_values'] == 2 and task['prompts'] == 3


def test_the_card_has_the_scores_of_its_own_step(tmp_path):
  """Those of another step, evaluated later, are not the exported weights'."""
  config = default_config()
  for step, score in ((3, 150.0), (7, 260.0)):
    report = build_report({CARTPOLE: task_score('classic_control', (score, score), 20.0, 500.0)}, LanguageScores(), {},
                          config)
    for place in (step_folder(tmp_path / FOLDER, step), tmp_path / FOLDER):
      place.mkdir(parents=True, exist_ok=True)
      write_report({**report, 'step': step}, place / REPORT)
  evaluated, other = (model_card(tmp_path, step, 10, 'float32', config, {CARTPOLE: None}) for step in (3, 4))
  assert f'| {CARTPOLE} | 150.00 | 20.00 | 500.00 | 27 | 2 |' in evaluated
  assert 'Not measured. It was trained on 1 control tasks.' in other


def test_numpy_alone_reads_it_as_the_docs_say(folder):
  """The code of docs/export.md, as it stands there."""
  [code] = re.findall(r'```python\n(import json, pathlib.*?)```', (ROOT / 'docs' / 'export.md').read_text(), re.DOTALL)
  assert len(code.splitlines()) <= 75
  reader = {}
  exec(code, reader)
  model, vocabulary, weights = reader['load'](folder)
  trained = load_export(folder)
  run = trained.tokenizer.document('the quick brown fox jumps')
  tokens = np.concatenate([run.tokens, [trained.tokenizer.vocabulary.continuous_start + 7]])
  local = np.concatenate([run.local_positions, [3]])
  got = reader['logits'](model, vocabulary, weights, tokens, local)
  none = np.zeros((1, 0, 16, 16, 3), np.uint8), np.zeros((1, 0), np.int32), np.zeros((1, 0, 2, 2), np.uint8)
  inputs = TokenInputs(tokens[None], local[None], np.ones((1, len(tokens)), bool), *none)
  decoder = Decoder(trained.model)
  hidden, _ = decoder.extend(inputs, decoder.init_cache(1, len(tokens)))
  want = np.asarray(trained.model.logits(hidden))[0]
  np.testing.assert_allclose(got[:, :want.shape[1]], want, atol=1e-4)


def test_an_agent_plays_as_the_run_it_comes_from(workdir, folder):
  """Seen and unseen tasks, gymnasium and dm_env, alone and several at once; the same actions from both."""
  environment = gymnasium.make('CartPole-v1')
  played = []
  for agent in (load(str(folder)), load(workdir)):
    assert agent.tasks.keys() == {f'classic_control/{name}' for name in NAMES}
    for policy in (agent.policy(environment.observation_space, environment.action_space, seed=3),
                   agent.policy(environment.observation_space, environment.action_space, task=CARTPOLE, seed=3)):
      observation, _ = environment.reset(seed=0)
      actions = []
      for _ in range(6):
        actions.append(policy.act(observation))
        observation = environment.step(actions[-1])[0]
      played.append(actions)
    assert isinstance(agent.caption(np.zeros((16, 16, 3), np.uint8), max_tokens=4), str)
  assert played[:2] == played[2:] and all(action in (0, 1) for action in sum(played, []))


def test_rows_of_a_batch_are_as_if_alone(folder):
  agent = load(str(folder))
  space = gymnasium.spaces.Box(-1, 1, (3,)), gymnasium.spaces.Box(np.float32([0, -2]), np.float32([10, 2]))
  observations = np.random.default_rng(0).uniform(-1, 1, (2, 3)).astype(np.float32)
  both = agent.policy(*space, batch_size=2, seed=5)
  first, second = both.act([observations[0], observations[1]])
  for row, seed in ((first, 5), (second, 6)):
    assert row.dtype == np.float32 and space[1].contains(row)
    alone = agent.policy(*space, seed=seed).act(observations[seed - 5])
    np.testing.assert_array_equal(alone, row)
  assert both.act([None, observations[1]])[0] is None
  with pytest.raises(InputError, match='1 observations for the 2 rows of this policy'):
    both.act([observations[0]])


def test_dm_env_specs(folder):
  from dm_env import specs

  observation = {'arm': specs.Array((2,), np.float64), 'eye': specs.BoundedArray((16, 16, 3), np.uint8, 0, 255)}
  policy = load(str(folder)).policy(observation, specs.BoundedArray((1,), np.float64, -3.0, 3.0), seed=1)
  action = policy.act({'arm': np.zeros(2), 'eye': np.zeros((16, 16, 3), np.uint8)})
  assert action.shape == (1,) and action.dtype == np.float64 and -3 <= action[0] <= 3
  with pytest.raises(InputError, match='arm'):
    policy.act({'arm': np.zeros(3), 'eye': np.zeros((16, 16, 3), np.uint8)})


def test_actions_mean_what_they_meant_where_they_were_recorded():
  """Recorded between -4 and 4, played where there is only -2 to 2; as evaluation does (`RescaledActions`)."""
  spec = TaskSpec('my/arm', 'my', {'joint': ArraySpec('continuous', (1,))}, ArraySpec('continuous', (1,)), 10)
  spaces = _Spaces(KnownTask(spec, action_bounds=((-4.0,), (4.0,))), gymnasium.spaces.Box(-1, 1, (1,)),
                   gymnasium.spaces.Box(-2, 2, (1,)))
  np.testing.assert_allclose(spaces.action(np.float32([0.25])), [1.0])
  np.testing.assert_allclose(spaces.action(np.float32([-0.9])), [-2.0])
  shown = spaces.episode([(np.float32([0.5]), np.float32([1.0]))])
  np.testing.assert_allclose(shown.action, [[0.25]])
  with pytest.raises(InputError, match='it must be finite floats'):
    spaces.episode([(np.float32([0.5]), np.float32([np.nan]))])


def test_a_picture_of_shares_is_not_taken_for_pixels():
  eye = gymnasium.spaces.Box(0, 255, (16, 16, 3), np.uint8)
  spaces = _Spaces(None, eye, gymnasium.spaces.Discrete(2))
  assert spaces.observation(np.full((16, 16, 3), 7))['observation'].dtype == np.uint8
  with pytest.raises(InputError, match='values that are no uint8'):
    spaces.observation(np.full((16, 16, 3), 0.5))


def test_a_demonstration_of_ones_own(folder):
  agent, space = load(str(folder)), (gymnasium.spaces.Box(-1, 1, (3,)), gymnasium.spaces.Discrete(3, start=5))
  shown = [(np.float32([0.1, 0.2, 0.3]), 6)] * 3
  action = agent.policy(*space, prompt=shown).act(np.float32([0, 0, 0]))
  assert action in (5, 6, 7)


WITHOUT = ('flax', 'orbax', 'tensorflow_datasets', 'grain', 'optax', 'ml_collections', 'rich', 'matplotlib', 'etils')
RUNNER = f'''
import sys
class Absent:
  def find_spec(self, name, *_):
    if name.split('.')[0] in {WITHOUT}:
      raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import gymnasium, json
from gato_jax.export.runner import load
agent = load(sys.argv[1])
environment = gymnasium.make('CartPole-v1')
policy = agent.policy(environment.observation_space, environment.action_space, task='{CARTPOLE}', seed=3)
observation, _ = environment.reset(seed=0)
actions = []
for _ in range(12):
  actions.append(policy.act(observation))
  observation = environment.step(actions[-1])[0]
picture = environment.action_space.np_random.integers(0, 256, (16, 16, 3)).astype('uint8') * 0 + 7
print(json.dumps([actions, agent.caption(picture, max_tokens=4), agent.complete('the', max_tokens=6)]))
'''


def test_programs_play_the_same_without_flax(folder):
  """In a process that has none of WITHOUT."""
  result = subprocess.run([sys.executable, '-c', RUNNER, str(folder)], cwd=ROOT, capture_output=True, text=True)
  assert result.returncode == 0, result.stderr[-2000:]
  agent, environment = load(str(folder)), gymnasium.make('CartPole-v1')
  policy = agent.policy(task=CARTPOLE, seed=3)
  observation, _ = environment.reset(seed=0)
  actions = []
  for _ in range(12):
    actions.append(int(policy.act({'state': observation.astype(np.float32)})))
    observation = environment.step(actions[-1])[0]
  picture = np.full((16, 16, 3), 7, np.uint8)
  assert json.loads(result.stdout) == [
      actions, agent.caption(picture, max_tokens=4), agent.complete('the', max_tokens=6)]


def test_programs_that_cannot_be_run(spoilt):
  path = spoilt / 'programs' / 'extend.stablehlo'
  path.write_bytes(path.read_bytes()[:100])
  with pytest.raises(InputError, match='extend.stablehlo cannot be run by jax'):
    runner.load(str(spoilt))


@pytest.mark.parametrize(('arguments', 'words'), [
    ({}, 'a policy needs observation_space and action_space'),
    ({'task': 'atari/pong'}, "task 'atari/pong' was not trained on"),
    ({'task': CARTPOLE, 'observation_space': gymnasium.spaces.Box(-1, 1, (3,))}, 'the observation space is'),
    ({'observation_space': gymnasium.spaces.Sequence(gymnasium.spaces.Discrete(2)),
      'action_space': gymnasium.spaces.Discrete(2)}, 'is a Sequence'),
    ({'observation_space': gymnasium.spaces.Discrete(2), 'action_space': gymnasium.spaces.Box(-np.inf, 1, (1,))},
     'has no bounds'),
])
def test_what_cannot_be_played_is_said(folder, arguments, words):
  with pytest.raises(InputError, match=words):
    load(str(folder)).policy(**arguments)


def edit(path, change):
  content = json.loads(path.read_text())
  change(content)
  path.write_text(json.dumps(content))


@pytest.mark.parametrize(('file', 'change', 'words'), [
    (CONFIG, lambda config: config.update(version=99), 'version 99'),
    (CONFIG, lambda config: config.update(format='x'), 'is not the config of an export'),
    (CONFIG, lambda config: config['config']['model'].update(width=10**9), 'the config asks for'),
    (CONFIG, lambda config: config['config']['model'].update(widht=3), 'not one of ours'),
    (CONFIG, lambda config: config['config'].pop('data'), 'not one of ours'),
    (INDEX, lambda index: index['weight_map'].update({'final_norm.bias': '../etc/passwd'}), 'not the name of a file'),
    (INDEX, lambda index: index['weight_map'].update({'final_norm.bias': '/etc/passwd'}), 'not the name of a file'),
    (INDEX, lambda index: index['weight_map'].pop('final_norm.bias'), 'final_norm.bias'),
    (INDEX, lambda index: index.clear(), 'has no weight_map'),
    (TASKS, lambda tasks: tasks[CARTPOLE].pop('spec'), 'describes no tasks'),
    ('vocabulary.json', lambda vocabulary: vocabulary.update(text_size=-3), 'must be positive'),
])
def test_a_changed_folder_is_an_error(spoilt, file, change, words):
  edit(spoilt / file, change)
  with pytest.raises(InputError, match=words):
    load(str(spoilt))


def test_other_tensors_than_the_index_says(spoilt):
  path = next(spoilt.glob('model-*'))
  tensors = load_file(path)
  save_file({name: np.zeros((2, 2), np.float32) for name in tensors}, path)
  with pytest.raises(InputError, match='the config asks for'):
    load(str(spoilt))


def test_a_header_that_asks_for_more_than_there_is(spoilt):
  """A file that says it holds terabytes is an error, not an allocation."""
  path = next(spoilt.glob('model-*'))
  name = next(iter(load_file(path)))
  header = json.dumps({name: {'dtype': 'F32', 'shape': [2**40], 'data_offsets': [0, 2**42]}}).encode()
  path.write_bytes(struct.pack('<Q', len(header)) + header + bytes(64))
  tracemalloc.start()
  with pytest.raises(InputError, match='no readable file of weights'):
    load(str(spoilt))
  assert tracemalloc.get_traced_memory()[1] < 2**26
  tracemalloc.stop()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_is_an_error_or_no_harm(folder, tmp_path_factory, data):
  """Cut off or flipped anywhere: an InputError, or numbers that differ; nothing else, and nothing outside."""
  spoilt = pathlib.Path(shutil.copytree(folder, tmp_path_factory.mktemp('fuzz') / 'x'))
  path = data.draw(st.sampled_from(sorted(spoilt.glob('*.*'))))
  content = bytearray(path.read_bytes())
  place = data.draw(st.integers(0, min(len(content) - 1, 2000)))
  if data.draw(st.booleans()):
    content = content[:place]
  else:
    content[place] ^= 1 << data.draw(st.integers(0, 7))
  path.write_bytes(content)
  with contextlib.suppress(InputError):
    load_export(spoilt)
    for name, task in read_tasks(spoilt).items():
      read_prompts(spoilt, name, task, 3)
  shutil.rmtree(spoilt)


def test_where_it_cannot_go(workdir, folder, tmp_path):
  with pytest.raises(InputError, match='is there already'):
    export(workdir, str(folder))
  with pytest.raises(InputError, match="dtype 'float16'"):
    export(workdir, str(tmp_path / 'x'), dtype='float16')
  with pytest.raises(InputError, match='--prompts=-1: must be 0'):
    export(workdir, str(tmp_path / 'x'), prompts=-1)
  (tmp_path / 'x').mkdir()
  with pytest.raises(InputError, match='no checkpoint of step 7'):
    export(workdir, str(tmp_path / 'x'), step=7)
  assert [path.name for path in tmp_path.iterdir()] == ['x']  # what was there stays
  (tmp_path / 'x').rmdir()
  with pytest.raises(InputError, match='is no folder'):
    load(str(tmp_path / 'nothing'))
  assert not list(tmp_path.iterdir())

"""The whole way, as a user goes it: a config of their own, prepare, train, kill, train again, evaluate."""

import json
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from gato_jax.training.metrics import read_records

ROOT = pathlib.Path(__file__).parents[1]
EXPERIMENT = """
from experiments.configs import quickstart
from gato_jax.config import mixture_entry

def get_config(arg=None):
  config = quickstart.get_config('tiny')
  with config.unlocked():
    cart_pole = config.data.mixture.classic_control.copy_and_resolve_references()
    cart_pole.update(tasks=('CartPole-v1',), task_weights=(), weight=0.5)
    config.data.mixture = {
        'classic_control': cart_pole,
        'digits': mixture_entry(0.3, episodes=100),
        'readme': mixture_entry(0.2, dataset='text_folder', path=FOLDER),
    }
  config.data.vocabulary.update(text_size=400, bins=256, discrete_size=256)
  config.training.update(steps=24, log_every=2, checkpoint_every=4)
  return config
"""


@pytest.fixture
def command(tmp_path):
  """Starts `gato-jax <stage> <workdir>` with the experiment."""
  pytest.importorskip('gymnasium')
  pytest.importorskip('sklearn')
  texts = tmp_path / 'texts'
  texts.mkdir()
  for number, part in enumerate((ROOT / 'README.md').read_text().split('\n## ')):
    (texts / f'{number}.md').write_text(part)
  experiment = tmp_path / 'mine.py'
  experiment.write_text(EXPERIMENT.replace('FOLDER', repr(str(texts))))

  def start(stage: str, workdir: str) -> subprocess.Popen:
    arguments = (f'--config={experiment}', f'--workdir={tmp_path / workdir}', f'--config.data.dir={tmp_path / "data"}')
    return subprocess.Popen([sys.executable, '-m', 'gato_jax.cli', stage, *arguments], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

  return start


def finish(process: subprocess.Popen) -> str:
  output, _ = process.communicate(timeout=600)
  assert process.returncode == 0, output[-3000:]
  return output


@pytest.mark.slow
def test_prepare_train_kill_train_evaluate(command, tmp_path):
  assert 'CartPole-v1: 4 episodes (3 noisy)' in finish(command('prepare', 'undisturbed'))
  shares = re.search(r'digits ([\d.]+)% of 30.0%', finish(command('train', 'undisturbed')))
  assert float(shares[1]) == pytest.approx(30, abs=8)
  killed = command('train', 'killed')
  while not (tmp_path / 'killed/checkpoints/4').exists() and killed.poll() is None:
    time.sleep(0.05)
  killed.kill()
  killed.communicate()
  assert 'going on from the checkpoint of step' in finish(command('train', 'killed'))
  records = read_records(str(tmp_path / 'undisturbed'))
  assert [record['step'] for record in records] == list(range(2, 25, 2))
  for key in ('loss', 'loss_by_source', 'gradient_norm', 'tokens'):
    assert [record[key] for record in read_records(str(tmp_path / 'killed'))] == [record[key] for record in records]
  assert records[-1]['loss'] < records[0]['loss'] - 0.5
  assert 'CartPole-v1' in finish(command('evaluate', 'killed'))
  report = json.loads((tmp_path / 'killed/evaluation/report.json').read_text())
  assert report['training']['packing_fill'] >= 0.98 and report['training']['steps'] == 24
  assert report['training']['tokens'] == records[-1]['tokens']
  score = report['tasks']['classic_control/CartPole-v1']
  assert score['normalised'] == pytest.approx(100 * (score['score'] - score['random']) / (500 - score['random']))
  assert 0 <= report['captions']['accuracy'] <= 1 and report['vqa']['accuracy'] is None
  assert np.isfinite(report['text']['nats_per_byte']) and report['text']['unigram_nats_per_byte'] > 0

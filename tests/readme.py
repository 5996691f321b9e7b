"""Does what README.md says, on small data: `python -m tests.readme FOLDER`, with eight simulated devices.

`make quickstart`, every `gato-jax` and `python -m` line of the page's code, in the page's order and in one folder, and
its Python. Only sizes differ: `experiments/configs/quickstart.py` there has few episodes, steps and tasks, and
numbers that the page gives are smaller (SMALLER). `gato-jax plan` is left out where the extra `tpu` is not installed.
"""

import importlib.util
import os
import pathlib
import re
import runpy
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import gymnasium
import numpy as np

from experiments.benchmarks import loader
from experiments.configs import quickstart
from gato_jax import cli

README = (pathlib.Path(__file__).parents[1] / 'README.md').read_text(encoding='utf-8')
BLOCK = re.compile(r'^```(\w*)\n(.*?)^```', re.MULTILINE | re.DOTALL)
SMALLER = {'training.steps=8000': 'training.steps=4', 'evaluation.episodes=50': 'evaluation.episodes=2',
           '--workers=8': '--workers=2', '/path/to/folder': 'notes'}
ADDRESS = 'http://127.0.0.1:8765'


def small_config(arg: str | None = None, full=quickstart.get_config):
  """Stands for the quickstart's."""
  del arg
  config = full('tiny')
  with config.unlocked():
    for name in ('dm_control', 'metaworld'):
      del config.data.mixture[name]
    config.data.mixture.classic_control.update(tasks=('CartPole-v1',), task_weights=())
    config.data.mixture.babyai.update(tasks=('OpenRedDoor-v0',))
  config.training.update(steps=8, log_every=2, checkpoint_every=4)
  config.evaluation.update(workers=0, examples=4)
  return config


def lines() -> list[list[str]]:
  """The commands of the page, as arguments; comments left out, variables put in."""
  variables, result = {}, []
  for language, text in BLOCK.findall(README):
    for line in text.splitlines() if not language else ():
      if assignment := re.fullmatch(r'([A-Z]+)=(\S+)', line):
        variables['$' + assignment[1]] = assignment[2]
        continue
      for old, new in {**variables, **SMALLER}.items():
        line = line.replace(old, new)
      result.append(shlex.split(line, comments=True))
  return [words for words in result if words and words[1] != 'COMMAND']


def do(words: list[str]) -> None:
  """One line of the page."""
  print('$', shlex.join(words), flush=True)
  if words == ['make', 'quickstart']:
    cli.main(['quickstart', '--workdir=runs/quickstart'])
  elif words[:2] == ['gato-jax', 'serve']:
    serve(words[1:])
  elif words[:2] == ['gato-jax', 'plan'] and not importlib.util.find_spec('libtpu'):
    print('left out: no libtpu')
  elif words[0] == 'gato-jax':
    cli.main(words[1:])
  elif words[:2] == ['python', '-m']:
    sys.argv = words[2:]
    runpy.run_module(words[2], run_name='__main__')
  elif words != ['make', 'test']:
    raise ValueError(f'{shlex.join(words)}: tests/readme.py does not know how')


def serve(words: list[str]) -> None:
  """Until it has answered."""
  # What a shell starts in the background ignores Ctrl-C, and so would the server.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  with subprocess.Popen([pathlib.Path(sys.executable).with_name('gato-jax'), *words]) as server:
    while server.poll() is None:
      try:
        print(urllib.request.urlopen(ADDRESS).read().decode())
        break
      except urllib.error.URLError:
        time.sleep(0.1)
    server.send_signal(signal.SIGINT)
  if server.returncode:
    raise RuntimeError(f'serve ended with {server.returncode}')


def main(folder: str) -> None:
  assert all(text in README for text in SMALLER)
  os.chdir(folder)
  quickstart.get_config = small_config
  loader.main.__defaults__ = (0.1,)  # seconds each
  config = pathlib.Path(cli.QUICKSTART)
  config.parent.mkdir(parents=True)
  config.write_text('from experiments.configs.quickstart import get_config\n')
  pathlib.Path('notes').mkdir()
  for number, part in enumerate(README.split('\n## ')):
    pathlib.Path(f'notes/{number}.md').write_text(part)
  configs, policies = [text for language, text in BLOCK.findall(README) if language == 'python']
  for old, new in SMALLER.items():
    configs = configs.replace(old, new)
  pathlib.Path('mine.py').write_text(configs)
  for words in lines():
    try:
      do(words)
    except SystemExit as end:  # a dry run ends with the status of what is missing
      if end.code and '--dry_run' not in words:
        raise
  env = gymnasium.make('CartPole-v1')
  values = {'env': env, 'observation': env.reset(seed=0)[0], 'image': np.zeros((64, 64, 3), np.uint8)}
  exec(policies, values)  # noqa: S102
  assert env.action_space.contains(values['action'])
  print('all of README.md was done')


if __name__ == '__main__':
  main(sys.argv[1])

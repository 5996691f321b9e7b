"""What gato_jax depends on, why, and under which licence: of `setup.py`, and of the metadata of what is installed."""

import ast
from collections.abc import Iterable
import functools
from importlib import metadata
import pathlib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_SETUP = pathlib.Path(__file__).parents[2] / 'setup.py'

# Why each is there; a test keeps this complete.
REASONS = {
    'absl-py': 'flags, logging',
    'array-record': 'the files of our datasets: random access without TensorFlow',
    'etils': 'paths on any storage, for checkpoints',
    'flatbuffers': "jax.export's files",
    'flax': 'NNX: the modules of the model',
    'fsspec': 'datasets on storage elsewhere',
    'grain': 'the loader: threads that read ahead, and the position to resume from',
    'imageio': 'videos of evaluation',
    'importlib-resources': 'tensorflow-datasets uses it without declaring it',
    'jax': 'the arrays, the compiler, the mesh',
    'matplotlib': 'plots',
    'ml-collections': 'the config',
    'ml-dtypes': 'bfloat16 in NumPy',
    'numpy': 'everything before the device',
    'optax': 'AdamW, Muon, schedules, clipping',
    'orbax-checkpoint': 'checkpoints',
    'pillow': 'pictures',
    'psutil': 'how much memory a run holds',
    'pyyaml': 'configs as text, manifests of launchers',
    'rich': 'progress and tables in the terminal',
    'safetensors': 'exported weights: numbers only, nothing that is executed',
    'scipy': 'bootstrap intervals of scores',
    'sentencepiece': 'the text tokenizer',
    'tensorboardx': 'TensorBoard files, without TensorFlow',
    'tensorflow-datasets': 'the datasets, their versions and their metadata; it needs no TensorFlow',
    # envs
    'dm-control': "DeepMind's Control Suite",
    'easy-vqa': 'questions about pictures, for the quickstart',
    'gymnasium': 'classic control, and the interface to environments of your own',
    'metaworld': 'manipulation tasks with scripted policies',
    'minigrid': 'BabyAI and its bot',
    'mujoco': 'the physics of dm_control, Meta-World and Fetch',
    'packaging': 'metaworld imports it without declaring it',
    'scikit-learn': 'the digits, which are captioned; embeddings of episodes in the report',
    # suites
    'ale-py': 'Atari, ROMs included',
    'cmaes': 'to search for gaits again',
    'gymnasium-robotics': 'Fetch',
    # formats
    'av': 'videos of LeRobot datasets',
    'h5py': 'files of Minari datasets',
    'minari': 'Minari datasets',
    'pyarrow': 'Parquet',
    # tf, beam, torch, cuda, tpu, serve, cloud
    'tensorflow': "to convert the rarer of TFDS's file formats, once",
    'apache-beam': 'to build datasets on many machines',
    'torch': 'what `gato-jax benchmark train_step` compares with',
    'websockets': '`gato-jax serve` and its client',
    'gcsfs': 'gs:// addresses',
    's3fs': 's3:// addresses',
    # dev, docs
    'flask': "tests: moto's server",
    'flask-cors': "tests: moto's server",
    'gcp-storage-emulator': 'tests: checkpoints in a bucket, without one',
    'hypothesis': 'tests: properties',
    'kubeflow-trainer-api': 'tests: the schema of manifests for GKE',
    'mypy': 'types of what is public',
    'moto': 'tests: checkpoints in S3, on this machine',
    'pytest': 'tests',
    'pytest-xdist': 'tests on several cores',
    'ruff': 'style',
    'selenium': "tests of pages, in the machine's own Chromium",
    'mkdocs-material': 'these pages',
    'mkdocstrings': 'their API reference',
}


def requirements() -> dict[str, list[Requirement]]:
  """What `setup.py` asks for, by extra; the core under `core`."""
  constants = {target.id: ast.literal_eval(statement.value)
               for statement in ast.parse(_SETUP.read_text()).body
               if isinstance(statement, ast.Assign) and isinstance(target := statement.targets[0], ast.Name)}
  return {extra: [Requirement(line) for line in lines]
          for extra, lines in {'core': constants['CORE'], **constants['EXTRAS']}.items()}


def licence(name: str) -> str:
  """As a package's metadata have it; empty where it is not installed, or they do not say."""
  try:
    about = metadata.metadata(name)
  except metadata.PackageNotFoundError:
    return ''
  classifiers = [line.rpartition(' :: ')[2] for line in about.get_all('Classifier', ())
                 if line.startswith('License ::')]
  text = (about.get('License') or '').strip().partition('\n')[0]
  return about.get('License-Expression') or ', '.join(c for c in classifiers if c != 'OSI Approved') or text[:60]


def brought(wanted: Iterable[Requirement]) -> set[str]:
  """The installed packages that these need, themselves included."""
  found: set[str] = set()
  waiting = [(requirement.name, frozenset(requirement.extras)) for requirement in wanted]
  seen = set(waiting)
  while waiting:
    name, extras = waiting.pop()
    needs = _needs(name)
    if needs is None:
      continue
    found.add(canonicalize_name(name))
    for need in needs:
      if need.marker is None or any(need.marker.evaluate({'extra': extra}) for extra in ('', *extras)):
        more = need.name, frozenset(need.extras)
        if more not in seen:
          seen.add(more)
          waiting.append(more)
  return found


@functools.cache
def _needs(name: str) -> list[Requirement] | None:
  """What an installed package asks for; None where it is not installed."""
  try:
    return [Requirement(line) for line in metadata.requires(name) or ()]
  except metadata.PackageNotFoundError:
    return None


def page() -> str:
  """Markdown: what we ask for by extra, then what that brings along."""
  asked = requirements()
  parts = [_HEAD]
  for extra, wanted in asked.items():
    names = dict.fromkeys(canonicalize_name(requirement.name) for requirement in wanted)
    rows = [f'| {name} | {licence(name) or "not installed where these pages were built"} | {REASONS[name]} |'
            for name in names]
    parts += [f'## {extra}', '\n'.join(['| package | licence | what for |', '|---|---|---|', *rows])]
  own = {canonicalize_name(requirement.name) for wanted in asked.values() for requirement in wanted}
  others = sorted(brought(requirement for wanted in asked.values() for requirement in wanted) - own)
  rows = [f'| {name} | {metadata.version(name)} | {licence(name) or "?"} |' for name in others]
  parts += ['## What these bring along', '\n'.join(['| package | version | licence |', '|---|---|---|', *rows])]
  return '\n\n'.join(parts) + '\n'


_HEAD = """# Licences

gato_jax is under Apache-2.0. What it depends on, by the extras of `setup.py`, with the licence that each package states
in its metadata, where these pages were built. `core` is installed always, the others when you ask for them. The data
that the datasets are made of have licences of their own: `gato-jax datasets` lists them."""

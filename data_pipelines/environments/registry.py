"""Every control task by name. Simulators are imported only when an environment is made."""

from collections.abc import Sequence
import difflib
import functools
import hashlib
import importlib
import importlib.util
import itertools
import pathlib
import sys
from types import ModuleType

from data_pipelines.environments import (
    atari,
    atari_extended,
    babyai,
    classic_control,
    dm_control_pixels,
    dm_control_random_large,
    dm_control_random_small,
    dm_control_suite,
    fetch,
    metaworld,
    modular_rl,
    procgen,
    sokoban,
)
from data_pipelines.environments.specs import Environment, Expert, TaskSpec
from data_pipelines.errors import InputError

SUITES: dict[str, ModuleType] = {
    suite.DOMAIN: suite
    for suite in (
        classic_control,
        dm_control_suite,
        dm_control_pixels,
        dm_control_random_small,
        dm_control_random_large,
        modular_rl,
        metaworld,
        babyai,
        sokoban,
        fetch,
        atari,
        atari_extended,
        procgen,
    )
}
SPECS: dict[str, TaskSpec] = {
    spec.name: spec for spec in itertools.chain.from_iterable(suite.SPECS.values() for suite in SUITES.values())
}
_SUITE_PARTS = ('DOMAIN', 'SPECS', 'make', 'make_expert')  # of a module


def register(modules: Sequence[str]) -> None:
  """Adds suites of the user's own to those that are there; again is no harm.

  Args:
    modules: names of modules, or paths of .py files, each with DOMAIN, SPECS, make and make_expert as the suites here
      have them (`experiments/examples/own_environment.py` is one). They are for this process: each one that works with
      their tasks registers them.

  Raises:
    InputError: there is no such module, it lacks a part, or its domain is another suite's.
  """
  for name in modules:
    suite = _load(name)
    missing = [part for part in _SUITE_PARTS if not hasattr(suite, part)]
    if missing:
      raise InputError(f'data.environments: {name} has no {", ".join(missing)}')
    if SUITES.setdefault(suite.DOMAIN, suite) is not suite:
      raise InputError(f'data.environments: the domain {suite.DOMAIN!r} of {name} is there already; name it otherwise')
    SPECS.update({spec.name: spec for spec in suite.SPECS.values()})


def _load(name: str) -> ModuleType:
  """A module by its name or the path of its file; the same one each time."""
  is_file = name.endswith('.py')
  path = str(pathlib.Path(name).resolve())
  if is_file and path in sys.modules:
    return sys.modules[path]
  try:
    if not is_file:
      return importlib.import_module(name)
    # By its path, since a script of the user's own is on no search path.
    spec = importlib.util.spec_from_file_location(path, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path] = module
    spec.loader.exec_module(module)
  except (ImportError, OSError, SyntaxError) as error:
    sys.modules.pop(path, None)
    raise InputError(f'data.environments: cannot import {name} ({error}); name a module or the path of a .py file'
                     ) from error
  return module


def task_names(domain: str | None = None) -> tuple[str, ...]:
  """The names of all tasks, or of one domain's; raises InputError where the domain is unknown."""
  if domain is not None and domain not in SUITES:
    raise InputError(f'unknown domain {domain!r}{_nearest(domain, SUITES)}; there are {", ".join(SUITES)}')
  return tuple(name for name, spec in SPECS.items() if domain in (None, spec.domain))


def trained_tasks(domain: str) -> tuple[str, ...]:
  """The tasks of a domain to train on, without the domain: not those that it holds out (if it says which it trains on,
  `TRAINED`), nor those that it has no expert for (`EVALUATION_ONLY`)."""
  suite = SUITES[domain]
  tasks = getattr(suite, 'TRAINED', tuple(task_spec(name).task for name in task_names(domain)))
  return tuple(task for task in tasks if task not in getattr(suite, 'EVALUATION_ONLY', ()))


def mixture_tasks(domain: str) -> tuple[str, ...]:
  """Those of `trained_tasks` that a mixture of everything takes: each in one view, as the paper has them. What shows
  numbers in place of the picture (`-symbolic`) is left out."""
  return tuple(task for task in trained_tasks(domain) if not task.endswith('-symbolic'))


def module_digest(domain: str) -> str:
  """Changes with the file of a suite's module as first looked at, but not with what the file imports."""
  return _file_digest(SUITES[domain])


@functools.cache  # a file that is edited while its module is loaded is not what plays
def _file_digest(suite: ModuleType) -> str:
  return hashlib.sha256(pathlib.Path(suite.__file__).read_bytes()).hexdigest()[:8]


def task_spec(name: str) -> TaskSpec:
  """A task's spec, known without its simulator; raises InputError naming the nearest task where there is none."""
  if name not in SPECS:
    raise InputError(f'unknown task {name!r}{_nearest(name, SPECS)}')
  return SPECS[name]


def make(name: str) -> Environment:
  """Builds a task's simulator; raises InputError where the task is unknown or its simulator is not installed."""
  spec = task_spec(name)
  return SUITES[spec.domain].make(spec)


def has_expert(name: str) -> bool:
  """Whether demonstrations can be made of a task; those that its suite names in EVALUATION_ONLY can but be played."""
  spec = task_spec(name)
  return spec.task not in getattr(SUITES[spec.domain], 'EVALUATION_ONLY', ())


def make_expert(environment: Environment) -> Expert:
  """The expert for an environment that `make` built; it acts in that object only."""
  return SUITES[environment.spec.domain].make_expert(environment)


def _nearest(name: str, names) -> str:
  nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.3)
  return f'; did you mean {nearest[0]!r}?' if nearest else ''

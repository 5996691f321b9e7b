"""The pages: links lead somewhere, commands are commands, every key and dependency is explained."""

import functools
import importlib.util
import pathlib
import re
import shlex

import pytest

from docs.hooks import config_reference, licences
from gato_jax import cli
from gato_jax.config_file import load_config
from tests import mutations

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').glob('*.md')])
MADE = {'config.md', 'licences.md', 'explorer.html'}  # in docs, when they are built
CODE = re.compile(r'^```[^\n]*\n(.*?)^```|`([^`\n]+)`', re.MULTILINE | re.DOTALL)
PLACEHOLDERS = {'FILE': cli.QUICKSTART, 'FILE:arg': cli.QUICKSTART, 'mine.py': cli.QUICKSTART,
                '$PAPER': 'experiments/configs/gato_1_18b.py', '...': cli.QUICKSTART}
REQUIRED = {'plan': ['--topology=v5e:4x4'], 'export': ['--out=x'], 'benchmark': ['loader'], 'serve': ['x'],
            'generate': ['x']}
# Keys of the config whose names say all there is to say.
PLAIN = {'evaluation.episodes'}


def anchors(page):
  """Of the headings, as Markdown's renderers make them."""
  text = re.sub(r'^```.*?^```', '', page.read_text(), flags=re.MULTILINE | re.DOTALL)
  headings = re.findall(r'^#+ (.*)$', text, re.MULTILINE)
  return {re.sub(r'[\s-]+', '-', re.sub(r'[^\w\s-]', '', heading.lower()).strip()) for heading in headings}


def without_code(page):
  return CODE.sub('', page.read_text())


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
  for link in re.findall(r'\]\((?!https?:)([^)\s]+)\)', without_code(page)):
    path, _, place = link.partition('#')
    target = (page.parent / path).resolve() if path else page
    if target.parent == ROOT / 'docs' and target.name in MADE:
      continue
    assert target.is_file(), f'{link} is no file'
    assert not place or place in anchors(target), f'{link}: no such heading'


def commands(page):
  """The command lines of a page's code that start with gato-jax."""
  for block, inline in CODE.findall(page.read_text()):
    for line in re.sub(r'\\\n\s*', ' ', block or inline).splitlines():
      if match := re.match(r'\s*gato-jax ([a-z]\w*)(?=\s|$)(.*)', line):
        arguments = re.sub(r'[][]', '', match[2])  # of what may be left out
        yield [match[1], *shlex.split(arguments, comments=True)]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_commands_of_the_pages_are_understood(page, monkeypatch):
  """Command, flags, config file and keys of the config; nothing is run."""
  called = []

  def noted(command):
    @functools.wraps(command)
    def note(config, workdir, **own):
      called.append(command.__name__)

    return note

  monkeypatch.setattr(cli, 'COMMANDS', {name: noted(command) for name, command in cli.COMMANDS.items()})
  for argv in commands(page):
    if len(argv) == 1:  # named in a sentence
      argv = argv + REQUIRED.get(argv[0], [])
    cli.main([known(argument) for argument in argv])
    assert called.pop() == argv[0]


def known(argument):
  """An argument with what stands for something replaced by something."""
  flag, equals, value = argument.partition('=')
  if flag.startswith('--config.data.mixture.NAME'):
    flag = flag.replace('NAME', 'babyai')
  if flag == '--config':
    value = PLACEHOLDERS.get(value, value)
  return flag + equals + value


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_modules_targets_and_tests_of_the_pages_exist(page):
  code = '\n'.join(block or inline for block, inline in CODE.findall(page.read_text()))
  for module in re.findall(r'python3? -m ([\w.]+)', code):
    assert importlib.util.find_spec(module), module
  targets = set(re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
  for line in re.findall(r'^make ((?:[a-z-]+ ?)+)', code, re.MULTILINE):
    assert set(line.split()) <= targets, line
  for path in re.findall(r'\b(?:tests|experiments|docs|gato_jax|data_pipelines)/[\w/]+\.(?:py|md|json)', code):
    assert (ROOT / path).is_file() or 'scores/' in path, path


def test_every_key_of_the_config_is_explained():
  explained = {key.path: key.comment for key in config_reference.keys()}
  assert {path for path, comment in explained.items() if not comment} <= PLAIN
  config = load_config(cli.QUICKSTART)
  assert {f'{section}.{key}' for section in ('model', 'faults', 'acting', 'evaluation') for key in config[section]
          } == {path for path in explained if path.partition('.')[0] in ('model', 'faults', 'acting', 'evaluation')}
  assert explained['data.mixture.NAME.mapping.image_side'].startswith('larger pictures are scaled down')


def test_every_dependency_has_its_reason_and_the_core_a_permissive_licence():
  asked = licences.requirements()
  names = {licences.canonicalize_name(requirement.name) for wanted in asked.values() for requirement in wanted}
  assert names == set(licences.REASONS)
  core = licences.brought(asked['core'])
  assert {'jax', 'jaxlib', 'numpy', 'protobuf'} <= core
  assert not {name for name in core if not licences.licence(name) or re.search(r'(?<!L)GPL', licences.licence(name))}


def test_every_mutant_can_be_made():
  for mutant in mutations.MUTANTS:
    mutations.mutated((ROOT / mutant.file).read_text(), mutant)
    assert (ROOT / mutant.tests).is_file()

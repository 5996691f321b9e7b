"""Breaks the core rules one at a time, in a copy of the tree, and sees whether a test fails for each.

    python -m tests.mutations                 # all of them, a line each; `make mutations` writes docs/trust.md too
    python -m tests.mutations mask prompt     # those whose rule has one of these words in it

A mutant is one replaced piece of a line and the test files that must notice. It counts as caught if a test of these
files fails; a file that cannot even be imported catches nothing.
"""

import argparse
from collections.abc import Iterator, Sequence
import datetime
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
BEGIN, END = '<!-- mutants: written by `make mutations` -->', '<!-- end of mutants -->'
_TESTS_FAILED = 1  # pytest's exit status; 2 and above: something else went wrong

# Short names of files.
TOKENIZER, VOCABULARY = 'data_pipelines/sequences/tokenizer.py', 'data_pipelines/tokenization/vocabulary.py'
CONTINUOUS, IMAGES = 'data_pipelines/tokenization/continuous.py', 'data_pipelines/tokenization/images.py'
ROWS, PLAN, WINDOWS = (f'data_pipelines/sequences/{name}.py' for name in ('rows', 'plan', 'windows'))
ATTENTION, BLOCK, PATCHES = (f'gato_jax/model/{name}.py' for name in ('attention', 'block', 'patches'))
LOSS, OPTIMIZER, STEP = (f'gato_jax/training/{name}.py' for name in ('loss', 'optimizer', 'step'))
TEST_VOCABULARY = 'tests/data_pipelines/test_tokenization_vocabulary.py'
TEST_TOKENIZER = 'tests/data_pipelines/test_sequence_tokenizer.py'
TEST_PLAN, TEST_LOADER = 'tests/data_pipelines/test_packing_plan.py', 'tests/data_pipelines/test_loader.py'
TEST_ATTENTION, TEST_MODEL = 'tests/gato_jax/test_attention.py', 'tests/gato_jax/test_model.py'
TEST_EMBEDDINGS, TEST_LOSS = 'tests/gato_jax/test_embeddings.py', 'tests/gato_jax/test_loss.py'
TEST_STEP, TEST_OPTIMIZER = 'tests/gato_jax/test_step.py', 'tests/gato_jax/test_optimizer.py'


class Mutant(NamedTuple):
  """A broken rule.

  Attributes:
    rule: what holds in the code as it is.
    file: where.
    old: stands there exactly once.
    new: what it becomes.
    tests: the file whose tests must notice.
  """

  rule: str
  file: str
  old: str
  new: str
  tests: str


MUTANTS = (
    # Numbers, pictures and text as tokens.
    Mutant('mu-law divides by ln(mu M + 1)', CONTINUOUS, '/ np.log1p(mu * m)', '/ np.log1p(mu)', TEST_VOCABULARY),
    Mutant("mu is the paper's 100, in the default config too", 'gato_jax/config.py', "'mu': 100.0", "'mu': 255.0",
           'tests/gato_jax/test_config.py'),
    Mutant('actions are binned without mu-law', VOCABULARY, 'to_bins(flat, self.bins)',
           'to_bins(mu_law(flat, self.mu, self.m), self.bins)', TEST_VOCABULARY),
    Mutant('a bin is half-open: floor, not the nearest edge', CONTINUOUS, 'np.floor((np.clip', 'np.round((np.clip',
           TEST_VOCABULARY),
    Mutant('1 itself falls into the last bin', CONTINUOUS, 'np.minimum(scaled, bins - 1)', 'np.minimum(scaled, bins)',
           TEST_VOCABULARY),
    Mutant("a bin decodes to its centre", CONTINUOUS, '(2 * np.arange(bins) + 1)', '(2 * np.arange(bins))',
           TEST_VOCABULARY),
    Mutant('discrete values share the first text ids, if so configured', VOCABULARY,
           'return 0 if self.discrete_overlaps_text', 'return 1 if self.discrete_overlaps_text', TEST_VOCABULARY),
    Mutant('patches come in raster order', IMAGES, '(*leading, rows, PATCH_SIZE, columns, PATCH_SIZE, channels)',
           '(*leading, columns, PATCH_SIZE, rows, PATCH_SIZE, channels)', 'tests/data_pipelines/test_images.py'),
    Mutant('ends of patch intervals are rounded half up', IMAGES, 'np.arange(columns + 1) / columns + 0.5)',
           'np.arange(columns + 1) / columns)', 'tests/data_pipelines/test_images.py'),
    Mutant('a document ends with the end token', TOKENIZER, 'return self._document(text, end=True)',
           'return self._document(text, end=False)', TEST_TOKENIZER),
    # A timestep.
    Mutant('observation items are sorted by key', TOKENIZER, 'for key in sorted(observation):',
           'for key in observation:', TEST_TOKENIZER),
    Mutant('the separator stands between observation and action', TOKENIZER,
           'tokens=_beside(columns.tokens, separator, executed)', 'tokens=_beside(columns.tokens, executed, separator)',
           TEST_TOKENIZER),
    Mutant('the separator is not predicted', TOKENIZER, 'np.zeros_like(separator, bool), np.ones_like(executed, bool)',
           'np.ones_like(separator, bool), np.ones_like(executed, bool)', TEST_TOKENIZER),
    Mutant('observations other than text are not predicted', TOKENIZER,
           'np.ones(tokens.shape, bool), np.zeros(tokens.shape, bool)',
           'np.ones(tokens.shape, bool), np.ones(tokens.shape, bool)', TEST_TOKENIZER),
    Mutant('text in an observation is predicted', TOKENIZER, 'return _Columns(tokens, valid, valid)',
           'return _Columns(tokens, valid, np.zeros_like(valid))', TEST_TOKENIZER),
    Mutant('of a question about a picture only the answer is predicted', TOKENIZER,
           'len(asked) if self.mask_question else 0', '0', TEST_TOKENIZER),
    Mutant("an action's label is the expert's", TOKENIZER, 'labels=_beside(columns.tokens, separator, expert)',
           'labels=_beside(columns.tokens, separator, executed)', TEST_TOKENIZER),
    Mutant('local positions count from 0', TOKENIZER, 'np.cumsum(columns.valid, axis=1, dtype=np.int32) - 1',
           'np.cumsum(columns.valid, axis=1, dtype=np.int32)', TEST_TOKENIZER),
    Mutant('action tokens share one local position', TOKENIZER, 'np.full_like(executed, ACTION_POSITION)',
           'ACTION_POSITION - np.arange(executed.shape[1]) + np.zeros_like(executed)', TEST_TOKENIZER),
    Mutant('hidden actions are hidden in the input', 'data_pipelines/sequences/tokenized_episode.py',
           'if hide_actions:', 'if False:', TEST_TOKENIZER),
    # Rows.
    Mutant('nothing is predicted across segments', ROWS, ' & (segment_ids[1:] == segment_ids[:-1])', '', TEST_LOADER),
    Mutant('a target is the next token', ROWS, 'labels[1:][predicts]', 'labels[:-1][predicts]', TEST_LOADER),
    Mutant('only text and actions have a weight', ROWS, 'row.loss_weights[:] = predicts', 'row.loss_weights[:] = 1',
           TEST_LOADER),
    Mutant('positions count within the segment', ROWS, 'np.arange(place - begin, part.stop - begin)',
           'np.arange(place, part.stop)', TEST_LOADER),
    Mutant('each segment of a row has an id of its own', PLAN, 'enumerate(segments, start=1)',
           '((1, segment) for segment in segments)', TEST_PLAN),
    Mutant('a prompt and its window are one segment', PLAN, 'segment.prompt_stop, number, Role.PROMPT',
           'segment.prompt_stop, -number, Role.PROMPT', TEST_PLAN),
    Mutant('a quarter of the windows have a prompt', WINDOWS, '< prompts.share', '< prompts.share / 2', TEST_PLAN),
    Mutant('half of the prompts come from the end', WINDOWS, '< prompts.from_end', '< prompts.from_end / 2', TEST_PLAN),
    Mutant('a prompt is of another episode', WINDOWS, 'wanted &= other != episode', 'wanted &= other == other',
           TEST_PLAN),
    Mutant('windows start anywhere in all timesteps alike', WINDOWS, 'rng.integers(index.timesteps, size=count)',
           'rng.integers(index.timesteps // 2, size=count)', TEST_PLAN),
    Mutant('rows depend on the seed', PLAN, 'default_rng([self._seed, block])', 'default_rng([block])', TEST_PLAN),
    Mutant('rows depend on their number', PLAN, 'default_rng([self._seed, block])', 'default_rng([self._seed])',
           TEST_PLAN),
    Mutant('a mixture weight is a share of positions', PLAN, 'weights / weights.sum()', 'weights', TEST_PLAN),
    Mutant('the global batch does not depend on the hosts', 'data_pipelines/reading.py', 'batch * self.batch_size +',
           'batch * len(self.local_rows) +', TEST_LOADER),
    Mutant('the batches do not depend on the processes', 'data_pipelines/reading.py',
           '-(-(chunk - first) // len(self._readers))', 'chunk // len(self._readers)',
           'tests/data_pipelines/test_reading.py'),
    Mutant("the expert's return is the best tenth of successive episodes", 'data_pipelines/sequences/filtering.py',
           '_WINDOW_SHARE = 0.1', '_WINDOW_SHARE = 0.2', 'tests/data_pipelines/test_filtering.py'),
    # The model.
    Mutant('attention is causal', ATTENTION, '(j < i)) | (i == j)', '(j != i)) | (i == j)', TEST_ATTENTION),
    Mutant('attention stays in its segment', ATTENTION, '(queries == keys) & (queries != 0)', '(queries != 0)',
           TEST_ATTENTION),
    Mutant('padding sees only itself', ATTENTION, ' & (queries != 0)', '', TEST_ATTENTION),
    Mutant('scores are divided by the square root of the head size', ATTENTION,
           'scores * q_BxQxHxK.shape[-1] ** -0.5', 'scores', TEST_ATTENTION),
    Mutant('blocks of other segments are masked on CPUs as well', 'gato_jax/model/blockwise.py',
           '(segment_ids_BxL != before_BxL) | ', '', TEST_ATTENTION),
    Mutant("the feed-forward's width counts gate and value together", BLOCK, 'config.feed_forward // 2',
           'config.feed_forward', 'tests/gato_jax/test_parameter_counts.py'),
    Mutant('the feed-forward is gated by a GELU', BLOCK, 'jax.nn.gelu(gate_BxLxF)', 'jax.nn.sigmoid(gate_BxLxF)',
           TEST_MODEL),
    Mutant('blocks are pre-norm', BLOCK, 'self.feed_forward(self.feed_forward_norm(x_BxLxD))',
           'self.feed_forward(x_BxLxD)', TEST_MODEL),
    Mutant('stochastic depth scales up the branches that it keeps', 'gato_jax/model/gato.py',
           'out_axes=-1)(keys_B) / keep', 'out_axes=-1)(keys_B)', TEST_MODEL),
    Mutant('pixels are in [-1, 1], divided by 4', PATCHES, '(x / 127.5 - 1.0) / 4.0', 'x / 127.5 - 1.0',
           TEST_EMBEDDINGS),
    Mutant("in training a patch's place is random in its interval", PATCHES,
           'low + jnp.floor(uniform * (high - low)).astype(jnp.int32)', '(low + high) // 2', TEST_EMBEDDINGS),
    Mutant('in evaluation it is the rounded mean', PATCHES, '(low + high + 1) // 2', '(low + high) // 2',
           TEST_EMBEDDINGS),
    # Training.
    Mutant('only positions with a target cost anything', LOSS, 'wanted_R = weights_R > 0', 'wanted_R = weights_R >= 0',
           TEST_LOSS),
    Mutant('a weight multiplies its loss', LOSS, 'jnp.stack([weights_C * loss_C', 'jnp.stack([loss_C', TEST_LOSS),
    Mutant('padding rows of the table get no probability', LOSS, 'len(ids_V) > settings.vocabulary_size:',
           'False:', TEST_LOSS),
    Mutant('accumulation weighs all targets of the batch alike', STEP, 'return sums.loss, sums',
           'return sums.loss / jnp.maximum(sums.weight_by_source.sum(), 1), sums', TEST_STEP),
    Mutant('a step that is not finite changes nothing', STEP, 'jnp.where(finite, new, old)', 'new', TEST_STEP),
    Mutant('the learning rate that is logged leaves out skipped steps', STEP, 'schedule(state.step - state.skipped)',
           'schedule(state.step)', TEST_STEP),
    Mutant("a row's randomness depends on the step", STEP, 'jax.random.fold_in(jax.random.key(seed), step)',
           'jax.random.key(seed)', TEST_STEP),
    Mutant('the learning rate warms up', OPTIMIZER, 'warmup_steps=schedule.warmup_steps', 'warmup_steps=0',
           TEST_OPTIMIZER),
    Mutant('the cosine ends at a tenth of the peak', OPTIMIZER, 'end_value=final', 'end_value=0.0', TEST_OPTIMIZER),
    Mutant('norms and biases do not decay', OPTIMIZER, 'return not path[-1].key.endswith(UNDECAYED)', 'return True',
           TEST_OPTIMIZER),
    Mutant('clipping is by the global norm', OPTIMIZER, 'optax.clip_by_global_norm(', 'optax.clip(', TEST_OPTIMIZER),
    # Acting and scores.
    Mutant('a temperature divides the logits', 'gato_jax/acting/sampling.py', 'logits_BxV / temperature',
           'logits_BxV * temperature', 'tests/gato_jax/test_sampling.py'),
    Mutant("what is forgotten is not seen", 'gato_jax/model/cache.py', '(held_BxC >= self.starts[:, None])',
           '(held_BxC >= 0)', 'tests/gato_jax/test_cache.py'),
    Mutant('0 is the random policy, 100 the expert', 'gato_jax/evaluation/scores.py',
           'return 100 * (score - random) / (expert - random)', 'return 100 * score / expert',
           'tests/gato_jax/test_scores.py'),
)


class Result(NamedTuple):
  """What became of a mutant: the first test that failed, or empty, and what pytest said last."""

  mutant: Mutant
  test: str
  output: str


def run(mutants: Sequence[Mutant]) -> Iterator[Result]:
  """Breaks one rule after the other.

  Raises:
    RuntimeError: the tests do not pass without any mutant, or cannot be run with one.
  """
  with tempfile.TemporaryDirectory(prefix='mutants.') as folder:
    tree = pathlib.Path(folder)
    _copy(tree)
    status, output = _pytest(tree, sorted({mutant.tests for mutant in mutants}))
    if status:
      raise RuntimeError(f'the tests do not pass as they are:\n{output}')
    for mutant in mutants:
      path = tree / mutant.file
      whole = path.read_text()
      path.write_text(mutated(whole, mutant))
      status, output = _pytest(tree, [mutant.tests])
      path.write_text(whole)
      if status > _TESTS_FAILED:
        raise RuntimeError(f'{mutant.rule}: the tests cannot be run:\n{output}')
      failed = re.search(r'^FAILED \S+::(\w+)', output, re.MULTILINE)
      yield Result(mutant, failed[1] if status and failed else '', output)


def mutated(text: str, mutant: Mutant) -> str:
  """The file with the rule broken; ValueError where `old` does not stand in it exactly once."""
  if text.count(mutant.old) != 1:
    raise ValueError(f'{mutant.file} has {text.count(mutant.old)} times {mutant.old!r}')
  return text.replace(mutant.old, mutant.new)


def _copy(target: pathlib.Path) -> None:
  names = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, check=True, capture_output=True, text=True).stdout
  for name in filter(None, names.split('\0')):
    if (ROOT / name).is_file():  # and not deleted since
      (target / name).parent.mkdir(parents=True, exist_ok=True)
      (target / name).write_bytes((ROOT / name).read_bytes())


def _pytest(tree: pathlib.Path, files: Sequence[str]) -> tuple[int, str]:
  """Its exit status and the end of its output; it stops at the first failure."""
  command = [sys.executable, '-m', 'pytest', '-x', '-q', '--tb=no', '-p', 'no:cacheprovider', '-m', 'not slow', *files]
  environment = {**os.environ, 'PYTHONPATH': str(tree), 'PYTHONDONTWRITEBYTECODE': '1'}
  done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
  return done.returncode, (done.stdout + done.stderr)[-2000:]


def table(results: Sequence[Result]) -> str:
  """Markdown: a row a mutant, under a line that counts them."""
  caught = sum(bool(result.test) for result in results)
  versions = f'Python {platform.python_version()}, {datetime.date.today():%Y-%m-%d}'
  rows = [f'| {result.mutant.rule} | `{result.mutant.file}` | {f"`{result.test}`" if result.test else "**nothing**"} |'
          for result in results]
  return '\n'.join([f'{caught} of {len(results)} mutants are caught ({versions}).', '',
                    '| rule that was broken | in | first test that failed |', '|---|---|---|', *rows])


def write(page: pathlib.Path, text: str) -> None:
  """Puts the table between its marks in a page."""
  before, _, rest = page.read_text().partition(BEGIN)
  _, _, after = rest.partition(END)
  page.write_text(f'{before}{BEGIN}\n\n{text}\n\n{END}{after}')


def main() -> None:
  arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  arguments.add_argument('words', nargs='*', help='only rules with one of these words in them')
  arguments.add_argument('--page', type=pathlib.Path, help='write the table into this page')
  options = arguments.parse_args()
  wanted = [mutant for mutant in MUTANTS
            if not options.words or any(word in mutant.rule for word in options.words)]
  results = []
  for result in run(wanted):
    results.append(result)
    print(f'{"caught" if result.test else "MISSED"}  {result.mutant.rule}: {result.test}', flush=True)
  if options.page:
    write(options.page, table(results))
  if missed := sum(not result.test for result in results):
    sys.exit(f'{missed} of {len(results)} missed')


if __name__ == '__main__':
  main()

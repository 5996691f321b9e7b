"""Three short runs of `make chaos`, with one kill each: at any moment, and twice during a save."""

import pytest

from tests.gato_jax import chaos
from tests.gato_jax.processes import losses

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('undisturbed')
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('XLA_FLAGS', '--xla_backend_optimization_level=2')  # compiled once, run for hundreds of steps
    assert chaos.launcher(workdir).run() == 0
    yield losses(workdir)


@pytest.mark.parametrize('seed', [101, 104, 108])
def test_a_killed_run_ends_as_an_undisturbed_one(seed, undisturbed, tmp_path):
  assert len(undisturbed) == chaos.STEPS
  result = chaos.disturbed_run(tmp_path, seed, undisturbed, kill_count=1)
  assert result.good, result

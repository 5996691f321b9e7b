"""One run of `make chaos`; each takes a minute or two."""

import pytest

from tests.gato_jax import chaos
from tests.gato_jax.processes import losses

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('undisturbed')
  assert chaos.launcher(workdir).run() == 0
  return losses(workdir)


@pytest.mark.parametrize('seed', [100])
def test_a_killed_run_ends_as_an_undisturbed_one(seed, undisturbed, tmp_path):
  assert len(undisturbed) == chaos.STEPS
  result = chaos.disturbed_run(tmp_path, seed, undisturbed)
  assert result.good, result

"""AdamW (or Muon) and the paper's learning-rate schedule (appendix D)."""

import jax
import optax
import optax.contrib

from data_pipelines.errors import InputError

# The paper does not say what its weight decay leaves out. Norm scales and biases are left out here, as most decoder
# codebases do; embedding tables and all matrices decay.
UNDECAYED = ('bias', 'scale')  # what their names end in
MUON_RMS = 0.2  # of an update, relative to the learning rate: about AdamW's, so that both take the same schedule


def make_schedule(training_config) -> optax.Schedule:
  """Linear warm-up from `initial` to `peak`, cosine down to `final_share` of the peak, constant from there.

  Args:
    training_config: the config's `training` section. The cosine ends at step `schedule.decay_steps`, counted from the
      start of training, or at `steps` where that is 0.

  Returns:
    A function of the number of updates made so far.
  """
  schedule = training_config.schedule
  decay_steps = schedule.decay_steps or training_config.steps
  final = schedule.peak * schedule.final_share
  if decay_steps <= schedule.warmup_steps:  # a run that ends within its warm-up has no cosine
    return optax.linear_schedule(schedule.initial, schedule.peak, schedule.warmup_steps)
  return optax.warmup_cosine_decay_schedule(
      init_value=schedule.initial, peak_value=schedule.peak, warmup_steps=schedule.warmup_steps,
      decay_steps=decay_steps, end_value=final)


def make_optimizer(training_config) -> optax.GradientTransformation:
  """AdamW; or Muon for the blocks' matrices and AdamW for the rest, both with Nesterov momentum. Clips the global norm
  first where `clip_norm` says so.

  Raises:
    InputError: `optimizer.name` is neither adamw nor muon.
  """
  optimizer = training_config.optimizer
  schedule = make_schedule(training_config)
  if optimizer.name == 'adamw':
    update = optax.adamw(
        schedule, b1=optimizer.b1, b2=optimizer.b2, eps=optimizer.eps, weight_decay=optimizer.weight_decay,
        mask=decay_mask)
  elif optimizer.name == 'muon':
    update = optax.contrib.muon(
        schedule, eps=optimizer.eps, weight_decay=optimizer.weight_decay, weight_decay_mask=decay_mask,
        adam_b1=optimizer.b1, adam_b2=optimizer.b2, adam_weight_decay=optimizer.weight_decay,
        muon_weight_dimension_numbers=muon_dimensions, consistent_rms=MUON_RMS)
  else:
    raise InputError(f'training.optimizer.name is {optimizer.name!r}: must be adamw or muon')
  clip = optax.clip_by_global_norm(optimizer.clip_norm) if optimizer.clip_norm else optax.identity()
  return optax.chain(clip, update)  # one structure either way: a checkpoint may be resumed with another clip_norm


def decay_mask(parameters):
  """A tree of bools for a nested dict: which parameters decay."""
  def decays(path, _):
    return not path[-1].key.endswith(UNDECAYED)

  return jax.tree.map_with_path(decays, parameters)


def muon_dimensions(parameters):
  """What of a nested dict Muon orthogonalises: the blocks' matrices, one a layer; None is AdamW's.

  The layers' axis comes first. An attention output reads heads [H, K] and writes [D]; query, key and value read [D] and
  write heads.
  """
  def dimensions(path, leaf):
    names = [entry.key for entry in path]
    if names[0] != 'blocks' or leaf.ndim < 3 or names[-1].endswith(UNDECAYED):
      return None
    axes = tuple(range(1, leaf.ndim))
    split = len(axes) - 1 if names[-1] == 'output' else 1
    return optax.contrib.MuonDimensionNumbers(axes[:split], axes[split:])

  return jax.tree.map_with_path(dimensions, parameters)

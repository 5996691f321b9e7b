"""AdamW and the paper's learning-rate schedule (appendix D)."""

import jax
import optax

# The paper does not say what its weight decay leaves out. Norm scales and biases are left out here, as most decoder
# codebases do; embedding tables and all matrices decay.
UNDECAYED = ('bias', 'scale')  # what their names end in


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
  """AdamW behind optional clipping of the gradient's global norm."""
  optimizer = training_config.optimizer
  adamw = optax.adamw(
      make_schedule(training_config), b1=optimizer.b1, b2=optimizer.b2, eps=optimizer.eps,
      weight_decay=optimizer.weight_decay, mask=decay_mask)
  clip = optax.clip_by_global_norm(optimizer.clip_norm) if optimizer.clip_norm else optax.identity()
  return optax.chain(clip, adamw)  # one structure either way: a checkpoint may be resumed with another clip_norm


def decay_mask(parameters):
  """A tree of bools for a nested dict: which parameters decay."""
  def decays(path, _):
    return not path[-1].key.endswith(UNDECAYED)

  return jax.tree.map_with_path(decays, parameters)

"""The 128 tasks of `local_agent.py` on one GPU: a larger model, sixteen times the rows a step."""

from experiments.configs import local_agent


def get_config(arg: str | None = None):
  """`arg` is the share of the quickstart's episodes to make, 1 by default."""
  config = local_agent.get_config(arg)
  config.name = 'local_agent_gpu'
  config.model.update(layers=6, width=384, heads=6, head_size=64, feed_forward=2304)
  config.training.update(batch_size=128, checkpoint_every=3000)
  config.training.schedule.warmup_steps = 600
  config.evaluation.update(environments=50, workers=8)
  return config

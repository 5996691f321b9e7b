"""The config schema: every key there is, with its default. An experiment's file changes some of them.

`experiments/configs/*.py` define `get_config(arg)`, which starts from `default_config()`. The command line overrides
any key with `--config.a.b=value`. The tree is locked: a key that is not here is an error.
"""

import dataclasses
from typing import Any

import ml_collections

from data_pipelines.datasets.mapping import KeyMapping


def default_config() -> ml_collections.ConfigDict:
  """The paper's settings (Gato 79M, sections 2 and 3, appendices C to E) wherever the paper gives one."""
  config = ml_collections.ConfigDict()
  config.name = 'gato'  # of the experiment, in logs and reports
  config.seed = 0  # of the weights, the order of the rows and all randomness of training
  config.data = data_config()
  config.model = model_config()
  config.training = training_config()
  config.mesh = ml_collections.ConfigDict({
      'preset': 'hybrid',  # dp, fsdp, fsdp_tp, hybrid; see gato_jax.mesh. On one slice hybrid is fsdp
      # Sizes of the axes instead of the preset's; 0: the preset's; -1 on one axis: the devices that are left.
      'replica': 0,  # across slices (DCN): batch
      'fsdp': 0,  # batch and parameters
      'tensor': 0,  # heads, feed-forward, vocabulary
  })
  config.faults = faults_config()
  config.acting = acting_config()
  config.evaluation = evaluation_config()
  config.finetuning = finetuning_config()
  return config.lock()


def data_config() -> ml_collections.ConfigDict:
  """What is trained on, and how it becomes rows."""
  config = ml_collections.ConfigDict()
  config.dir = 'data'  # datasets, their indexes and tokenizers
  config.seed = 0  # of the demonstrations; another one than the training's, which may be many on the same data
  config.mixture = ml_collections.ConfigDict()  # dataset -> mixture_entry(...)
  config.environments = ()  # modules, or paths of .py files, with suites of your own (data_pipelines/environments)
  config.sequence_length = 1024  # L, positions of a row
  config.patches_per_row = 256  # P: picture patches a row has room for
  config.block_rows = 64  # rows that are packed together
  config.cache_megabytes = 1024  # tokenized episodes kept for each process of the run, by all that read for it
  config.read_threads = 2  # that lay out rows ahead of training
  config.read_processes = 0  # for each process of the run, that lay them out instead, on a core each; 0: threads do
  config.workers = 2  # processes that make datasets
  config.skip_share = 0.01  # of a dataset's examples may be bad: they are named, counted and skipped; more is an error
  config.vocabulary = ml_collections.ConfigDict({
      'text_size': 32_000,  # subwords; ids [0, text_size)
      'bins': 1024,  # of continuous values, uniform in [-1, 1]
      'discrete_size': 1024,  # discrete values
      'discrete_overlaps_text': True,  # the paper's id layout; False gives discrete values ids of their own
      'mu': 100.0,  # of the mu-law of continuous observations
      'm': 256.0,  # the magnitude at which it saturates
  })
  config.prompt = ml_collections.ConfigDict({
      'share': 0.25,  # of the control windows
      'from_end': 0.5,  # of the prompts; the others come from anywhere in their episode
      'max_share_of_row': 0.5,  # longest prompt, as a share of L; its length is uniform up to that
  })
  config.mask_question = True  # of a picture question only the answer is a target (paper figure 2)
  return config


def mixture_entry(weight: float, **settings: Any) -> ml_collections.ConfigDict:
  """One dataset of the mixture.

  Args:
    weight: share of positions, relative to the other datasets'.
    **settings: any of the keys below.
  """
  entry = ml_collections.ConfigDict({
      'weight': weight,  # share of positions, relative to the other entries'; 0 leaves the entry out
      'dataset': '',  # which one (data_pipelines/datasets/catalogue.py); empty: the entry's key in the mixture
      'tasks': (),  # control: task names; empty for datasets without tasks
      'task_weights': (),  # what each task gets of the dataset's weight, relative to the others; empty: the same
      'episodes': 0,  # to generate a task (control), or to keep at most (others); 0: the dataset's default
      'window_timesteps': 0,  # longest window; 0: as long as the row
      'hide_actions': 0.0,  # share of windows with action tokens hidden in the input (paper appendix G)
      'noise': 0.0,  # share of demonstrations with noise injected; their targets stay the expert's clean actions
      'subset': 0,  # so many episodes, drawn, of each task; the first of a larger subset; control only. 0: all
      'subset_of_best': 0,  # drawn from so many with the highest return, or success; 0: from all
      'subset_seed': 0,  # another one draws others
      'min_return_share': 0.0,  # episodes below this share of the expert's return are left out (paper: 0.8); 0: none
      'path': '',  # where the user's own files are, for a dataset that reads them
      'mapping': dataclasses.asdict(KeyMapping()),  # imported episodes: which of their items are what
      'environment': '',  # imported episodes: the task, or with `tasks` the domain, that they are evaluated on
      'picture_size': 0,  # pixels a side that pictures read from files are fitted to; 0: the dataset's default
  })
  entry.lock().update(settings)
  return entry


def model_config() -> ml_collections.ConfigDict:
  """Table 5's 79M model."""
  return ml_collections.ConfigDict({
      'layers': 8,  # N
      'width': 768,  # D
      'heads': 24,  # H
      'head_size': 32,  # K
      'feed_forward': 3072,  # gate and value halves together (paper table 5, read so that parameter counts agree)
      'positions': 'rope',  # rope, transformer_xl or none
      'local_positions': 512,  # rows of the table of places within a timestep
      'patch_position_bins': 128,  # rows of the tables of a patch's row and column
      'patch_channels': 64,  # of the picture encoder
      'value_features': 0,  # Fourier features of a bin's value, added to its embedding; 0: the paper's plain table
      'stochastic_depth': 0.1,  # share of the rows that skip a branch of a layer in training
      'dropout': 0.0,  # of the embeddings and of what each branch adds; the paper's fine-tuning has 0.1
      'remat': 'none',  # what is computed again in the backward pass: none, full, dots (all but matrix products)
      'attention': 'auto',  # or one of IMPLEMENTATIONS in gato_jax.model.attention
      'dtype': 'auto',  # of activations: bfloat16 where the hardware has it, else float32
      'vocabulary_multiple': 128,  # the embedding table's rows are rounded up to a multiple of this
  })


def training_config() -> ml_collections.ConfigDict:
  """Appendix D."""
  config = ml_collections.ConfigDict({
      'init_from': '',  # a run's workdir, to start from its newest weights, with its tokenizer; empty: random weights
      'steps': 1_000_000,  # updates
      'batch_size': 512,  # rows a step over all devices and accumulation
      'accumulation': 1,  # micro-batches a step
      'bin_smoothing': 0.0,  # standard deviation, in bins, of a continuous target's soft label; 0: one-hot
      'nonfinite_limit': 10,  # steps in a row with a non-finite loss or gradient before training stops
      'log_every': 100,  # steps
      'checkpoint_every': 1000,  # steps
      'keep_checkpoints': 2,  # the newest
      'keep_every': 0,  # and those of steps that divide by this; 0: none
      'keep_best': 0,  # and so many with the lowest loss
      'checkpoint_dir': '',  # where they lie: a path, gs:// or s3://; empty: the workdir
  })
  config.optimizer = ml_collections.ConfigDict({
      'name': 'adamw',  # or muon: orthogonalised momentum for the blocks' matrices, AdamW for the rest
      'b1': 0.9,  # decay of the first moment
      'b2': 0.95,  # and of the second
      'eps': 1e-8,  # added to the root of the second
      'weight_decay': 0.1,  # of all but norms and biases
      'clip_norm': 0.0,  # 0: no clipping, as in the paper
  })
  config.schedule = ml_collections.ConfigDict({
      'initial': 1e-7,  # learning rate of the first step
      'peak': 1e-4,  # at the end of the warm-up
      'final_share': 0.1,  # of the peak, at the end of the cosine
      'warmup_steps': 15_000,  # linear
      'decay_steps': 0,  # where the cosine ends; 0: at training.steps
  })
  return config


def faults_config() -> ml_collections.ConfigDict:
  """What a run does when processes, hosts or disks fail; seconds."""
  return ml_collections.ConfigDict({
      'start_timeout': 300.0,  # for all processes to come
      'agree_timeout': 900.0,  # for all processes to come to a point where they wait for each other
      'heartbeat_timeout': 100.0,  # of JAX's runtime: a process that is silent for so long is dead
      'first_step_timeout': 3600.0,  # for the first step, compilation included; 0: no watchdog
      'step_timeout': 900.0,  # for each step after it; 0: no limit
      'evaluation_timeout': 14400.0,  # of several processes: for process 0 to evaluate (evaluation.every)
  })


def acting_config() -> ml_collections.ConfigDict:
  """Section 2.4. What is seen at play follows the mixture entry's `window_timesteps` and `hide_actions`."""
  return ml_collections.ConfigDict({
      'prompt': True,  # starts with a part of a successful demonstration
      'prompt_from': 'start',  # or end: the last timesteps, a goal to be reached
      'prompt_share_of_row': 0.5,  # longest prompt, as a share of L
      'keep_prompt': True,  # when the context is full; False: the prompt is forgotten first, as the paper has it
      # All tokens of an action out of one pass, blind to one another. auto: where training always hid them (the
      # entry's hide_actions); yes: also where it did sometimes; no: one by one.
      'parallel_action_tokens': 'auto',
      'temperature': 1.0,  # 0: greedy
      'restrict_logits': True,  # to the ids an action can have
  })


def evaluation_config() -> ml_collections.ConfigDict:
  """Section 4.1: 50 episodes a task."""
  return ml_collections.ConfigDict({
      'episodes': 50,
      'seed': 1_000_000,  # first evaluation seed; demonstrations are made from seeds below it
      'environments': 10,  # of a task, played at once
      'workers': 2,  # processes that play, on one CPU core each; 0: play in this process, on its accelerator
      'environment_workers': 0,  # processes, for each that plays, that hold the environments; 0: it holds them itself
      'examples': 500,  # held-out captions and questions asked
      'text_characters': 50_000,  # of held-out text scored
      # Steps of training after which it waits for an evaluation, on the CPU; 0: it never does (`evaluate --follow`).
      'every': 0,
  })


def finetuning_config() -> ml_collections.ConfigDict:
  """Appendix E: the runs that `gato-jax finetune` compares. How each trains is in `training`, how it plays in
  `evaluation`.
  """
  return ml_collections.ConfigDict({
      'episodes': (1, 3, 5, 10, 100, 1000),  # of a task to fine-tune on; a smaller number is part of a larger one
      'best_episodes': 2000,  # of those that are built, what they are drawn from; 0: all
      'repetitions': 3,  # each draws other episodes and has another seed
      'evaluate_every': 100,  # steps; on `evaluation.episodes` episodes, other ones each time
      'smoothing': 5,  # evaluations averaged; the score of a run is the highest of these means
      'workers': 0,  # processes with a run each, on one CPU core each; 0: one after the other, on the accelerator
  })


_CHANGES_NO_ROW = ('cache_megabytes', 'read_processes', 'read_threads', 'workers')  # keys of the section data


def without_readers(config: dict[str, Any]) -> dict[str, Any]:
  """A config's dict without what says how rows are read, but not which: runs that differ in it alone are the same."""
  data = {key: value for key, value in config['data'].items() if key not in _CHANGES_NO_ROW}
  return {**config, 'data': data}


def changed_keys(old: dict[str, Any], new: dict[str, Any], prefix: str = '') -> list[str]:
  """`key: old -> new` for every key of two nested dicts that differs."""
  changes = []
  for key in sorted({*old, *new}):
    before, after = old.get(key), new.get(key)
    if isinstance(before, dict) and isinstance(after, dict):
      changes += changed_keys(before, after, f'{prefix}{key}.')
    elif before != after:
      changes.append(f'{prefix}{key}: {before!r} -> {after!r}')
  return changes

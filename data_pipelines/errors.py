"""The one exception for bad input, so that a command can print it without a stack trace."""


class InputError(ValueError):
  """Bad input: a config key, file, shape, episode, checkpoint or topology.

  The message says what was wrong, where, and what to do. The command line prints it and exits with 2.
  """

"""The settings of a deployment.

model    all of them as one frozen object, and what fits together
sources  where they come from: flags, variables, a file
files    values that stand in files of their own
options  as flags of a command
"""

from worker.settings.model import Settings

__all__ = ["Settings"]

"""Settings of the trainer's tests."""

import torch

# OpenMP's threads wait for each other by spinning: on a machine with other work, tiny models take minutes with several
torch.set_num_threads(1)

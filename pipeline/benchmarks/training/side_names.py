"""The names of the sides that `pipeline benchmark train` compares on CPUs."""

OURS = "ours"
PLAIN = "plain"
"""Plain PyTorch; also in tables of GPUs, beside the templates."""
DEEPSPEED = "deepspeed"
"""DeepSpeed's engine alone, around transformers' model and its own loss."""
ACCELERATE = "accelerate"
"""accelerate with DeepSpeed."""
TRAINER = "trainer"
"""transformers' Trainer with DeepSpeed."""
NANOGPT = "nanogpt"
"""nanoGPT's own model and loop."""
WITHOUT_DEEPSPEED = (PLAIN, NANOGPT)
"""Sides that no template changes: they are measured once for all templates."""
SIDES = (PLAIN, NANOGPT, DEEPSPEED, ACCELERATE, TRAINER, OURS)
"""All sides, in the order of a round."""

"""The interface to DeepSpeed: its config, engine, optimizers, shards, memory and operators."""

"""DeepSpeed behind names of ours: its config, engine, optimizers, shards, memory and operators."""

"""Samples to checkpoints: engine, loop, model, optimizer, schedules, validation loss."""

"""Trainings forked from one warm process: on a CPU, runs without the seconds of their imports."""

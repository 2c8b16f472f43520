"""Commands forked from one warm process: on a CPU, without the seconds of their imports."""

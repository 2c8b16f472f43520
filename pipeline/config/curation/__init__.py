"""The sections of a run file that describe and judge documents."""

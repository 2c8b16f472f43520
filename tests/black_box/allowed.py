"""What may differ from the commit that wrote observed.json, each with its reason."""

ADDED_COMMANDS = {
    "annotate": "describes documents, of which the recorded commit had no stage",
    "pack": "packing is a stage of its own, which the recorded commit did within `train`",
    "explain": "tells why a document is read or not; the recorded commit read all",
    "select": "decides which documents are read; the recorded commit read all",
    "generate": "continues a text with any checkpoint; the recorded commit could not",
    "compare": "compares scores question by question, which the recorded commit did not keep",
    "checkpoints merge": "averages checkpoints, which the recorded commit could not",
    **dict.fromkeys(
        ("plan", "doctor", "submit"), "come before a run; the recorded commit had none"
    ),
    **dict.fromkeys(
        ("study", *(f"study {name}" for name in ("run", "status", "fit", "compare", "report"))),
        "families of runs, of which the recorded commit had none",
    ),
    "benchmark search": "measures the search for questions that a run has read",
    "benchmark executor": "measures what a task costs, which the recorded commit did not",
    "benchmark curate": "measures annotating and selecting, which the recorded commit did not have",
    "benchmark commands": "measures commands that only look, which the recorded commit did not",
    "benchmark start": "measures what starting costs, which the recorded commit did not",
    "benchmark evaluate": "measures the scorer, which the recorded commit did not have",
    **dict.fromkeys(
        ("tasks", "tasks fetch", "tasks list", "tasks verify"),
        "questions of public tasks, of which the recorded commit had none",
    ),
}
OTHER_QUESTIONS = ("patterns", "pattern_", "heldout_cloze", "arithmetic")
"""Beginnings of the names of built-in tasks. Their questions depended on `evaluation.items` and on the
most solved examples asked for; now neither changes what is asked, so that scores that are there stay
right when something else is asked for. Bits per byte are compared as before."""
ADDED_RECORDS = {
    "pack.manifest.json": "what the stage `pack` says of the index; the index's own manifest stays",
}
"""Names of files that say something of the data and are none of them."""
ADDED_EVENTS = {
    "launch": "when the supervisor starts the ranks, for the account of a run's time",
    "ranks ended": "when they have ended, for the same",
    "energy": "what the devices have used, where they tell it",
}
ADDED_FIELDS = {
    "unix_time": "the time of an event or a step to the millisecond",
    "abandoned_steps": "recorded steps that a start abandons",
    "device": "the name of the devices in the event of a start",
    **dict.fromkeys(
        (
            "loss_by_source",
            "targets_by_source",
            "repeated_loss_by_source",
            "repeated_targets_by_source",
        ),
        "the training loss by source, and of text that the run repeats",
    ),
}
"""Fields of steps and events."""

"""Which runs a study has, and what their folders tell."""

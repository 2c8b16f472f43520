"""Names of what the stages that describe and judge documents write."""

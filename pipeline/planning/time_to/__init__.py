"""Time, tokens, device-hours and energy to a target."""

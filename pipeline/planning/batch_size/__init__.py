"""How large a batch may be: steps and tokens to a target loss, and the critical batch size."""

"""Questions of public tasks: fetched once, checked, given to lm-eval's own definitions."""

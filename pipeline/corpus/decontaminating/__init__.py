"""Questions of public tasks in documents: found, with evidence, and removed or cut."""

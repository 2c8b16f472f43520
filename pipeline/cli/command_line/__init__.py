"""How commands are declared, and how their help looks."""

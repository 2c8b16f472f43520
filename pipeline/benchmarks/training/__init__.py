"""`pipeline benchmark train`: what a step costs, beside what others would use."""

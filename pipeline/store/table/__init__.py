"""What a row of the table of stages holds."""

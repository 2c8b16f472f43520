"""How throughput grows with the number of devices: measured points, the fit, predictions, the file."""

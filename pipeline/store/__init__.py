"""What lies on disk and who holds it: manifests, events, metrics, leases, heartbeats."""

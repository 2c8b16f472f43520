"""Starting and watching ranks. Free of torch: the ranks are subprocesses."""

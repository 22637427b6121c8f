"""What the operating system gives: whole files, locks, ports, processes, memory, packages."""

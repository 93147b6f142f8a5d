"""The commands of `edge-runtime`, one family a file; each file's `add` declares its own."""

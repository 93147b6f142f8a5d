"""Devices and their server in one process, joined by links that fail, driven one step at a time by a seed.

Everything on both sides is real: encrypted caches, keystores, the runtime's rooms, the server's store and
its sessions. Only the socket, the clocks and chance are ours, so a seed replays a run exactly, and after each
step an oracle that knows what was published under which consent looks at every device.
"""

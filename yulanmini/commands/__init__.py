"""One file per verb group. Each is thin: parse, call the room, print."""

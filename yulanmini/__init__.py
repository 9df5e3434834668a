"""The front: command line, the driver of `reproduce`, the report. Rooms are imported only when needed."""

"""Metrics as TensorBoard reads them.

Written in the thread that measures: the queue of tensorboardX's own writer is emptied by a thread
that ends at the first error, as on a full disk, and then whoever writes waits for ever.
"""

import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore
from tensorboardX.summary import scalar


class Events:
    """A file of events.

    Args:
        folder: folder that TensorBoard is given; made where there is none.
        purge_step: first step of which TensorBoard forgets what earlier files say, or None.
    """

    def __init__(self, folder: Path, purge_step: int | None = None):
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        if purge_step is not None:
            started = SessionLog(status=SessionLog.START)
            self._writer.write_event(
                Event(wall_time=time.time(), step=purge_step, session_log=started)
            )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values of a step."""
        for name, value in values.items():
            event = Event(wall_time=time.time(), step=step, summary=scalar(name, value))
            self._writer.write_event(event)
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

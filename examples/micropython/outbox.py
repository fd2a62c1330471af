"""Events that wait for their receipt, in a file that survives deep sleep and power cuts."""

import json
import os

EVENTS_MAX = 200  # Beyond that the oldest is dropped; its missing `seq` shows in Voltwire.


class Outbox:
    def __init__(self, path="outbox.json"):
        self._path = path
        self._next, self._events = 1, []
        try:
            with open(path) as file:
                self._next, self._events = json.load(file)
        except (OSError, ValueError):  # The first start, or a file that was never finished.
            pass

    def add(self, run, seconds, metrics):
        """`seconds` is the clock of this power-on, whose random name is `run`."""
        self._events.append([self._next, run, seconds, metrics])
        self._events = self._events[-EVENTS_MAX:]
        self._next += 1
        self._save()

    def oldest(self, run, seconds, limit=20):
        """The events as Voltwire takes them. Their age is known if the clock has run all the time since."""
        found = []
        for seq, its_run, measured, metrics in self._events[:limit]:
            event = {"event_id": "%s-%d" % (its_run, seq), "seq": seq, "metrics": metrics}
            if its_run == run:
                event["age_ms"] = 1000 * max(0, seconds - measured)
            found.append(event)
        return found

    def settle(self, receipt):
        """What has a verdict goes; a rejected event would be rejected again."""
        known = [item["event_id"] for item in receipt]
        self._events = [each for each in self._events if "%s-%d" % (each[1], each[0]) not in known]
        self._save()

    def __len__(self):
        return len(self._events)

    def _save(self):
        with open(self._path + ".new", "w") as file:
            json.dump([self._next, self._events], file)
        os.rename(self._path + ".new", self._path)

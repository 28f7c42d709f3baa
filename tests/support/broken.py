"""A tracker with a bug, as a user's plug-in may have one."""


class BrokenTracker:
    def log(self, record):
        1 / 0  # noqa: B018

    def cut_back(self, node, step):
        pass

    def close(self):
        pass

"""A loopback server that answers the W&B SDK's calls: GraphQL, file streams and uploads.

It emulates what the SDK of version 0.31 asks for and keeps what it sends; it validates nothing, and how the real
server treats rewinds, gaps and duplicates is known from its documentation alone. `available = False` makes it refuse
everything, as a server that is down behind its proxy; `stop` closes its port.
"""

import gzip
import json
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROJECT = {"id": "p", "name": "framework", "entity": {"id": "e", "name": "someone"}}


class FakeWandb:
    """The server, and what it was sent: `history` by run id, `files` by name, `configs` by run id."""

    def __init__(self, supports_rewind=False):
        self.supports_rewind = supports_rewind
        self.available = True
        self.history = defaultdict(dict)  # {run id: {line number: row}}
        self.configs, self.files, self.rewinds, self.operations = {}, {}, [], []
        self.port = 0
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        """Listen, on the same port as before after a `stop`."""
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def rows(self, run_id):
        """Return the run's history rows, in the order of its lines."""
        return [row for _, row in sorted(self.history[run_id].items())]

    def answer(self, operation, variables):
        self.operations.append(operation)
        run_id = variables.get("name") or variables.get("runName")
        if operation == "Viewer":
            return {"viewer": {"id": "v", "entity": "someone", "username": "someone", "flags": "{}", "teams": None}}
        if operation == "RunResumeStatus":
            return {"model": {**PROJECT, "bucket": self._resume_status(run_id) if run_id in self.configs else None}}
        if operation == "UpsertBucket":
            inserted = run_id not in self.configs
            self.configs[run_id] = json.loads(variables.get("config") or "{}")
            return {"upsertBucket": {"bucket": self._bucket(run_id), "inserted": inserted}}
        if operation == "RewindRun" and self.supports_rewind:
            self.rewinds.append((run_id, variables["metricValue"]))
            kept = [row for row in self.rows(run_id) if row["_step"] <= variables["metricValue"]]
            self.history[run_id] = dict(enumerate(kept))
            return {"rewindRun": {"rewoundRun": self._bucket(run_id)}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": run_id, "uploadHeaders": [], "files": files}}
        return None

    def _bucket(self, run_id):
        names = {"id": run_id, "name": run_id, "displayName": run_id, "description": "", "sweepName": None}
        config = json.dumps(self.configs[run_id])
        return {**names, "config": config, "project": PROJECT, "historyLineCount": len(self.history[run_id])}

    def _resume_status(self, run_id):
        rows = self.rows(run_id)
        return {
            **self._bucket(run_id),
            "summaryMetrics": json.dumps(rows[-1] if rows else {}),
            "logLineCount": 0,
            "eventsLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]),
            "eventsTail": "[]",
            "tags": [],
            "notes": "",
            "wandbConfig": json.dumps({"t": 1}),
        }

    def take(self, run_id, files):
        """Keep the lines of a file stream."""
        sent = files.get("wandb-history.jsonl", {"offset": 0, "content": []})
        for number, line in enumerate(sent["content"], sent["offset"]):
            self.history[run_id][number] = json.loads(line)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Say nothing of connections that the SDK, or its death, has cut."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeWandb

    def log_message(self, *arguments):
        pass

    def do_POST(self):
        body = self._body()
        if not self.fake.available:
            self._send({"error": "down"}, 503)
        elif self.path == "/graphql":
            request = json.loads(body)
            data = self.fake.answer(request["operationName"], request.get("variables") or {})
            errors = None if data else [{"message": f"no such operation: {request['operationName']}"}]
            self._send({"data": data} if data else {"data": None, "errors": errors})
        elif self.path.endswith("/file_stream"):
            self.fake.take(self.path.split("/")[-2], json.loads(body).get("files") or {})
            self._send({})
        else:
            self._send({})

    def do_PUT(self):
        self.fake.files[self.path.removeprefix("/upload/")] = self._body()
        self._send({}, 200 if self.fake.available else 503)

    def do_GET(self):
        self._send({}, 200 if self.fake.available else 503)

    def _body(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _send(self, content, status=200):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

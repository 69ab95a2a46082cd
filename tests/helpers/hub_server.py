"""A Hub on 127.0.0.1: repositories with commits, LFS files, private ones, and faults on demand.

It answers what `huggingface_hub` asks of the real one to create repositories, commit, and download,
and keeps the rules that matter for publishing: an LFS object must hash to its id, a commit needs
all its objects and its parent, and is taken whole or not at all.

    with HubServer() as hub:
        api = HfApi(endpoint=hub.url, token=hub.token)
        hub.fail("PUT", "/lfs/", times=1)   # the next upload of a large file is answered with 500
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

PREFIXES = {"model": "", "space": "spaces/", "dataset": "datasets/"}
LFS_SUFFIXES = (".safetensors", ".bin", ".parquet")


@dataclass
class Repo:
    """A repository: its commits, oldest first, as (sha, files); variables are those of a Space."""

    private: bool
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes]) -> str:
        parent = self.commits[-1][0] if self.commits else ""
        digest = hashlib.sha1(parent.encode())
        for name, content in sorted(files.items()):
            digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
        self.commits.append((digest.hexdigest(), files))
        return digest.hexdigest()

    @property
    def files(self) -> dict[str, bytes]:
        """The files of `main`."""
        return self.commits[-1][1]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)


@dataclass
class Fault:
    """What goes wrong with the next `times` requests of a method whose path matches.

    Args:
        status: answer with it.
        drop_after: read or write so many bytes of the body, then cut the line.
        change: what the body of an answer becomes; its announced size and hash stay.
        lost: do what was asked, but cut the line instead of an answer.
    """

    method: str
    pattern: str
    times: int
    status: int | None = None
    drop_after: int | None = None
    change: Callable[[bytes], bytes] | None = None
    lost: bool = False


class HubServer:
    """The server, running as long as the `with` block; its state is there to look at."""

    token = "hf_test"

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "HubServer":
        # the end of a test waits until the server has looked whether it shall go on
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: object) -> dict[str, str]:
        """Variables of a process that shall take this for the Hub; `home` is its cache folder."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": self.token,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
        }

    def model(self, name: str) -> Repo:
        return self.repos["model", name]

    def space(self, name: str) -> Repo:
        return self.repos["space", name]

    def count(self, method: str, pattern: str) -> int:
        """Requests so far."""
        return sum(1 for used, path in self.requests if used == method and re.search(pattern, path))

    # --- faults

    def fail(self, method: str, pattern: str, status: int = 500, times: int = 1000) -> None:
        self.faults.append(Fault(method, pattern, times, status=status))

    def drop(self, method: str, pattern: str, after: int, times: int = 1000) -> None:
        self.faults.append(Fault(method, pattern, times, drop_after=after))

    def lose_answer(self, method: str, pattern: str, times: int = 1000) -> None:
        self.faults.append(Fault(method, pattern, times, lost=True))

    def corrupt(
        self, pattern: str, change: Callable[[bytes], bytes], method: str = "GET", times: int = 1000
    ) -> None:
        self.faults.append(Fault(method, pattern, times, change=change))

    def fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and re.search(fault.pattern, path):
                    fault.times -= 1
                    return fault
        return None


class _Answer(Exception):  # noqa: N818 - an answer, not always an error
    def __init__(self, status: int, content: Any = None, **headers: str) -> None:
        self.status, self.content = status, content
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def _refusal(status: int, code: str, message: str) -> _Answer:
    return _Answer(status, {"error": message}, X_Error_Code=code, X_Error_Message=message)


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    # --- transport

    def _serve(self) -> None:
        self.hub.requests.append((self.command, self.path))
        self.fault = self.hub.fault(self.command, self.path)
        try:
            self._send(self._answer(self._read_body()))
        except ConnectionError:
            self.close_connection = True

    def _answer(self, body: bytes) -> "_Answer":
        if self.fault and self.fault.status:
            return _Answer(self.fault.status, {"error": "out of order"})
        address = urlsplit(self.path)
        try:
            with self.hub.lock:
                self._route(unquote(address.path), parse_qs(address.query), body)
        except _Answer as answer:
            return answer
        return _Answer(404, {"error": f"no such call: {self.command} {self.path}"})

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
                if (
                    self.fault
                    and self.fault.drop_after is not None
                    and len(body) >= self.fault.drop_after
                ):
                    self._cut()
            self.rfile.readline()
            return body
        length = int(self.headers.get("Content-Length", 0))
        if self.fault and self.fault.drop_after is not None and self.command in ("PUT", "POST"):
            self.rfile.read(min(length, self.fault.drop_after))
            self._cut()
        return self.rfile.read(length)

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.close()
        raise ConnectionError

    def _send(self, answer: _Answer) -> None:
        content = answer.content
        body = (
            content
            if isinstance(content, bytes)
            else json.dumps(content if content is not None else {}).encode()
        )
        self.send_response(answer.status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        if self.fault and self.fault.lost:
            self._cut()
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), **answer.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault and self.fault.change and answer.status == 200:
            body = self.fault.change(body)
        if self.fault and self.fault.drop_after is not None:
            self.wfile.write(body[: self.fault.drop_after])
            self._cut()
        self.wfile.write(body)

    # --- routes

    def _route(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        free = path == "/api/validate-yaml" or path.startswith("/lfs/")
        if self.command in ("POST", "PUT") and not free and not self._known():
            raise _Answer(401, {"error": "Invalid username or password."})
        if path == "/api/repos/create":
            self._create(json.loads(body))
        if path == "/api/validate-yaml":
            self._validate(json.loads(body))
        if match := re.fullmatch(r"/lfs/(\w+)", path):
            self._receive_object(match[1], body)
        if match := re.fullmatch(r"/lfs/(\w+)/verify", path):
            raise _Answer(200 if match[1] in self.hub.objects else 404)
        if match := re.fullmatch(
            r"/(spaces/|datasets/|)([^/]+/[^/]+)\.git/info/lfs/objects/batch", path
        ):
            self._batch(json.loads(body))
        if match := re.fullmatch(r"/(spaces/|datasets/|)([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            kind = {prefix: name for name, prefix in PREFIXES.items()}[match[1]]
            self._resolve(self._repo(kind, match[2]), match[3], match[4])
        if match := re.fullmatch(r"/api/(model|space|dataset)s/([^/]+/[^/]+)(/.*|)", path):
            self._api(self._repo(match[1], match[2]), match[2], match[3], query, body)

    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def _repo(self, kind: str, name: str) -> Repo:
        repo = self.hub.repos.get((kind, name))
        if repo is None or (repo.private and not self._known()):
            raise _refusal(401, "RepoNotFound", "Repository not found")
        return repo

    def _create(self, wanted: dict[str, Any]) -> None:
        key = (wanted.get("type", "model"), f"{wanted['organization']}/{wanted['name']}")
        url = f"{self.hub.url}/{PREFIXES[key[0]]}{key[1]}"
        if key in self.hub.repos:
            raise _Answer(409, {"error": "You already created this repo", "url": url})
        private = wanted.get("private") or wanted.get("visibility") == "private"
        self.hub.repos[key] = Repo(bool(private))
        self.hub.repos[key].commit(
            {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}
        )
        raise _Answer(200, {"url": url, "name": key[1], "id": "1"})

    def _validate(self, asked: dict[str, Any]) -> None:
        if not isinstance(_front_matter(asked["content"]), dict):
            raise _Answer(
                400, {"errors": [{"message": "metadata must be a mapping"}], "warnings": []}
            )
        raise _Answer(200, {"errors": [], "warnings": []})

    def _receive_object(self, oid: str, body: bytes) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise _Answer(400, {"error": "content does not hash to its id"})
        self.hub.objects[oid] = body
        raise _Answer(200)

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = []
        for wanted in asked["objects"]:
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.objects:
                href = f"{self.hub.url}/lfs/{wanted['oid']}"
                entry["actions"] = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
            objects.append(entry)
        raise _Answer(200, {"transfer": "basic", "objects": objects})

    def _api(
        self, repo: Repo, name: str, rest: str, query: dict[str, list[str]], body: bytes
    ) -> None:
        if rest.startswith("/preupload/"):
            self._preupload(repo, json.loads(body))
        if rest.startswith("/commit/"):
            self._commit(repo, name, body)
        if rest == "/variables":
            sent = json.loads(body)
            repo.variables[sent["key"]] = sent["value"]
            raise _Answer(200, {key: {"value": value} for key, value in repo.variables.items()})
        match = re.fullmatch(r"/(revision|tree)/([^/]+)(/.*)?|", rest)
        if match is None:
            return
        commit = repo.at(match[2] or "main")
        if commit is None:
            raise _refusal(404, "RevisionNotFound", f"Invalid rev id: {match[2]}")
        sha, files = commit
        if match[1] == "tree":
            listed = [
                {"type": "file", "path": path, **_facts(path, content)}
                for path, content in files.items()
            ]
            raise _Answer(200, listed)
        siblings = [
            {"rfilename": path, **(_facts(path, content) if "blobs" in query else {})}
            for path, content in files.items()
        ]
        about = {
            "_id": "1",
            "id": name,
            "sha": sha,
            "private": repo.private,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "cardData": _front_matter(files.get("README.md", b"").decode()),
        }
        raise _Answer(200, {**about, "siblings": siblings})

    def _preupload(self, repo: Repo, asked: dict[str, Any]) -> None:
        ignored = repo.files.get(".gitignore", b"").decode().split()
        answers = []
        for wanted in asked["files"]:
            path = wanted["path"]
            content = repo.files.get(path)
            answers.append(
                {
                    "path": path,
                    "uploadMode": "lfs" if path.endswith(LFS_SUFFIXES) else "regular",
                    "shouldIgnore": path in ignored,
                    "oid": None if content is None else _facts(path, content)["oid"],
                }
            )
        raise _Answer(200, {"files": answers})

    def _commit(self, repo: Repo, name: str, body: bytes) -> None:
        files = dict(repo.files)
        for line in body.splitlines():
            key, value = json.loads(line).values()
            if (
                key == "header"
                and value.get("parentCommit", repo.commits[-1][0]) != repo.commits[-1][0]
            ):
                raise _Answer(
                    412, {"error": "A commit has happened since. Please refresh and try again."}
                )
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    raise _Answer(400, {"error": f"object {value['oid']} was not uploaded"})
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        sha = repo.commit(files)
        raise _Answer(
            200,
            {"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/{name}/commit/{sha}"},
        )

    def _resolve(self, repo: Repo, revision: str, path: str) -> None:
        commit = repo.at(revision)
        if commit is None:
            raise _refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        sha, files = commit
        if path not in files:
            answer = _refusal(404, "EntryNotFound", "Entry not found")
            answer.headers["X-Repo-Commit"] = sha
            raise answer
        oid = _facts(path, files[path])["oid"]
        raise _Answer(200, files[path], X_Repo_Commit=sha, ETag=f'"{oid}"')


def _front_matter(card: str) -> Any:
    """The metadata on top of a card, None where it has none."""
    parts = card.split("---\n")
    return yaml.safe_load(parts[1]) if len(parts) > 2 else None


def _facts(path: str, content: bytes) -> dict[str, Any]:
    """What the Hub tells of a file; the id of large files is the hash of their content, of others
    git's.
    """
    size = len(content)
    git = hashlib.sha1(b"blob %d\0" % size + content).hexdigest()
    if not path.endswith(LFS_SUFFIXES):
        return {"size": size, "oid": git, "blobId": git}
    sha256 = hashlib.sha256(content).hexdigest()
    lfs = {"sha256": sha256, "oid": sha256, "size": size, "pointerSize": 130}
    return {"size": size, "oid": sha256, "blobId": git, "lfs": lfs}

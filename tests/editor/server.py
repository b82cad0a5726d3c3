"""The real yaml-language-server over its protocol: one process, JSON-RPC over standard input and output."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

CURSOR = "|"


def command() -> list[str] | None:
    """How it is started: ``YAML_LANGUAGE_SERVER``, or the one on the path; None where there is none."""
    named = os.environ.get("YAML_LANGUAGE_SERVER") or shutil.which("yaml-language-server")
    node = shutil.which("node")
    return [node, named, "--stdio"] if named and node and Path(named).exists() else None


class Server:
    """A running server that knows one schema for ``*.plan.yaml``."""

    def __init__(self, schema: Path) -> None:
        found = command()
        assert found is not None
        self._process = subprocess.Popen(
            found, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._settings = {
            "yaml": {
                "schemas": {schema.as_uri(): "*.plan.yaml"},
                "schemaStore": {"enable": False},
                "hover": True,
                "completion": True,
                "validate": True,
            }
        }
        self._heard: queue.Queue[dict[str, Any]] = queue.Queue()
        self._number = 0
        threading.Thread(target=self._listen, daemon=True).start()
        documents = {
            "completion": {"completionItem": {"snippetSupport": True, "documentationFormat": ["markdown"]}},
            "hover": {"contentFormat": ["markdown"]},
            "publishDiagnostics": {},
        }
        self._ask(
            "initialize",
            {
                "processId": None,
                "rootUri": None,
                "capabilities": {"textDocument": documents, "workspace": {"configuration": True}},
            },
        )
        self._tell("initialized", {})
        self._tell("workspace/didChangeConfiguration", {"settings": self._settings})
        self._folder = schema.parents[1] / "plans"  # plans may name their schema beside that folder
        tries = 0
        while not self.completions("version: 1\npipeline: {dtype: |}\n"):  # it reads its settings by and by
            tries += 1
            assert tries < 100, "the server does not take its schema"
            time.sleep(0.1)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def completions(self, text: str) -> list[str]:
        """The labels that are offered at the cursor, ``|``."""
        return [item["label"] for item in self.items(text)]

    def items(self, text: str) -> list[dict[str, Any]]:
        """The completions at the cursor."""
        found = self._at("completion", text)
        items: list[dict[str, Any]] = found["items"] if isinstance(found, dict) else found
        return items

    def hover(self, text: str) -> str:
        """What is shown of the word at the cursor."""
        found = self._at("hover", text)
        return str(found["contents"]["value"]) if found else ""

    def diagnostics(self, text: str) -> list[tuple[int, str]]:
        """The lines, from 1, and messages of what is underlined."""
        uri = self._open(text)
        while True:
            said = self._next()
            if said.get("method") == "textDocument/publishDiagnostics" and said["params"]["uri"] == uri:
                found = said["params"]["diagnostics"]
                return [(d["range"]["start"]["line"] + 1, d["message"]) for d in found]

    def _at(self, what: str, text: str) -> Any:
        before, _, after = text.partition(CURSOR)
        uri = self._open(before + after)
        lines = before.split("\n")
        place = {"line": len(lines) - 1, "character": len(lines[-1])}
        return self._ask(f"textDocument/{what}", {"textDocument": {"uri": uri}, "position": place})

    def _open(self, text: str) -> str:
        self._number += 1
        uri = (self._folder / f"p{self._number}.plan.yaml").as_uri()
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self._tell("textDocument/didOpen", {"textDocument": document})
        return uri

    def _ask(self, method: str, params: Any) -> Any:
        self._number += 1
        number = self._number
        self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        while True:
            said = self._next()
            if said.get("id") == number and "method" not in said:
                assert "error" not in said, said["error"]
                return said["result"]

    def _tell(self, method: str, params: Any) -> None:
        self._send({"jsonrpc": "2.0", "method": method, "params": params})

    def _next(self) -> dict[str, Any]:
        """What the server says next; its own questions are answered on the way."""
        said = self._heard.get(timeout=60)
        if "method" in said and "id" in said:
            answer: Any = None
            if said["method"] == "workspace/configuration":
                answer = [self._settings.get(item.get("section")) for item in said["params"]["items"]]
            self._send({"jsonrpc": "2.0", "id": said["id"], "result": answer})
        return said

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._process.stdin.flush()

    def _listen(self) -> None:
        out = self._process.stdout
        assert out is not None
        while line := out.readline():
            length = int(line.split(b":")[1]) if line.lower().startswith(b"content-length") else 0
            while line := out.readline().strip():
                if line.lower().startswith(b"content-length"):
                    length = int(line.split(b":")[1])
            self._heard.put(json.loads(out.read(length)))

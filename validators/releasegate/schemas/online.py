"""Schemas from a URL template and from a cluster: what only a person's `schemas add` asks for, never a check.

Whatever the other side answers is text to judge: an error page, a redirect without end, a file of any size. Every
failure is one NotObtained, whose text says what was asked, what came, and what to do.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from releasegate import process, yamlio
from releasegate.schemas.candidates import MAX_BYTES, Candidate, of_documents, of_schema, problem, usable
from releasegate.schemas.locations import LocationError, complete, fill, fillable, variables

SECONDS = 60.0  # for one answer, however slowly it comes
REDIRECTS = 5
_CHUNK = 1 << 16
_AGENT = "releasegate (schemas add)"
_KUBECTL = process.Limits(seconds=180, output_bytes=512 << 20)


class NotObtained(Exception):
    """A schema could not be had from where it was asked for. `str()` is for a person."""


# --- a URL template -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UrlTemplate:
    """A URL with kubeconform's variables, or the URL of one file of CustomResourceDefinitions."""

    template: str

    @classmethod
    def parse(cls, text: str) -> UrlTemplate:
        """LocationError for what is no http(s) URL, holds credentials, or uses a variable kubeconform does not have."""
        bare = re.sub(r"\{\{.*?\}\}", "x", text)
        try:
            parts = urlsplit(bare)
            port = parts.port
        except ValueError as error:
            raise LocationError(f"--from {text}: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise LocationError(f"--from {text}: write an http or https URL, a folder, or cluster")
        if parts.username is not None or parts.password is not None:
            raise LocationError("--from: a URL with a password in it is not sent; fetch the files to a folder instead")
        return cls(complete(text, name="--from"))

    @property
    def is_one_file(self) -> bool:
        """Whether it names one file, whatever kind is asked for."""
        return not variables(self.template)

    def file(self, seconds: float = SECONDS) -> tuple[list[Candidate], list[str]]:
        """The usable schemas of a file of CRDs, and why others were passed over; NotObtained when there is none."""
        content = _fetched(self.template, seconds)
        try:
            documents = [one.value for one in yamlio.documents(content.decode("utf-8"))]
        except (yamlio.YamlError, UnicodeDecodeError, RecursionError) as error:
            raise NotObtained(f"{self.template}: {_what_else(content) or f'is no YAML: {error}'}") from error
        found = list(of_documents(documents, self.template))
        if not found:
            raise NotObtained(
                f"{self.template}: {_what_else(content) or 'holds no CustomResourceDefinition'}; a JSON Schema needs a "
                "URL with {{.ResourceKind}} in it"
            )
        return usable(found)

    def schema(self, api_version: str, kind: str, kubernetes: str, seconds: float = SECONDS) -> Candidate:
        """The schema of one kind; NotObtained when it is not there, or cannot be used."""
        if not fillable(api_version, kind):
            raise NotObtained(f"{api_version} {kind} is no apiVersion and kind")
        url = fill(self.template, api_version, kind, kubernetes)
        content = _fetched(url, seconds)
        try:
            document = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise NotObtained(f"{url}: {_what_else(content) or f'is no JSON: {str(error).splitlines()[0]}'}") from error
        made = of_schema(document, api_version, kind, url)
        if isinstance(made, str):
            raise NotObtained(f"{url}: {made}")
        why = problem(made)
        if why is not None:
            raise NotObtained(f"{url}: {why}")
        return made


def _what_else(content: bytes) -> str | None:
    """What an answer is that is not what was asked for."""
    start = content.lstrip()[:200].lower()
    if not start:
        return "is empty"
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "is a web page, no schema: name the raw file (on GitHub: raw.githubusercontent.com)"
    return None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, to http and https only, and never from https back to http."""

    max_redirections = REDIRECTS
    max_repeats = REDIRECTS

    def redirect_request(  # noqa: PLR0917 - the signature of urllib
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if after.scheme not in ("http", "https") or (before.scheme == "https" and after.scheme == "http"):
            raise NotObtained(f"{req.full_url}: redirects to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Http and https only: the default opener also reads files and ftp."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _fetched(url: str, seconds: float) -> bytes:
    """The body of an answer 200, at most MAX_BYTES of it, within `seconds`; NotObtained for all else."""
    end = time.monotonic() + seconds
    content = bytearray()
    try:
        request = urllib.request.Request(url, headers={"User-Agent": _AGENT, "Accept": "application/json, */*"})  # noqa: S310 - the scheme is checked
        with _opener().open(request, timeout=min(seconds, 20.0)) as answer:
            while chunk := answer.read1(_CHUNK):
                content += chunk
                if len(content) > MAX_BYTES:
                    raise NotObtained(f"{url}: is larger than {MAX_BYTES // 2**20} MiB, which no schema is")
                if time.monotonic() > end:
                    raise NotObtained(f"{url}: did not arrive within {seconds:g} s")
            if answer.length:
                raise NotObtained(f"{url}: broke off after {len(content)} bytes")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (301, 302, 303, 307, 308):
            raise NotObtained(
                f"{url}: redirects more than {REDIRECTS} times, to nowhere, or to what is not http"
            ) from error
        hint = ": it has no schema of this kind there" if error.code == http.HTTPStatus.NOT_FOUND else ""
        raise NotObtained(f"{url}: answers {error.code} {error.reason}{hint}") from error
    except urllib.error.URLError as error:
        raise NotObtained(f"{url}: cannot be reached: {_why(error.reason)}") from error
    except (TimeoutError, OSError) as error:
        raise NotObtained(f"{url}: cannot be reached: {_why(error)}") from error
    except (http.client.HTTPException, ValueError) as error:
        raise NotObtained(f"{url}: is not answered as HTTP: {type(error).__name__} {error}".rstrip()) from error
    return bytes(content)


def _why(reason: Any) -> str:
    if isinstance(reason, TimeoutError | socket.timeout):
        return "no answer in time"
    return getattr(reason, "strerror", None) or str(reason)


# --- a cluster ----------------------------------------------------------------------------------------------------


def in_cluster(root: Path, context: str | None) -> tuple[list[Candidate], list[str]]:
    """The schemas of all CRDs of a cluster, as kubectl lists them, and why others were passed over.

    NotObtained without kubectl or an answer of it. kubectl is the person's own: it gets their whole environment,
    since its credentials may come from anywhere in it. One that lies in the judged repo is not started.
    """
    program = shutil.which("kubectl")
    if program is None:
        raise NotObtained(
            "kubectl is not on PATH: install it, or write `kubectl get crd -o json` to a file of a folder elsewhere and "
            "name that folder with --from"
        )
    if Path(program).resolve().is_relative_to(root.resolve()):
        raise NotObtained(f"{program} lies in {root}: a program of the judged repo is not started")
    argv = [program, "get", "crd", "-o", "json", *(["--context", context] if context is not None else [])]
    answer = process.run(argv, cwd=Path("/"), env=_environment(), limits=_KUBECTL)
    asked = " ".join(["kubectl", *argv[1:]])
    if isinstance(answer, process.NotStarted):
        raise NotObtained(f"kubectl cannot be started: {answer.reason}")
    if isinstance(answer, process.Stopped):
        raise NotObtained(f"`{asked}` {answer.reason}")
    if answer.returncode != 0:
        said = answer.stderr.decode("utf-8", "replace").strip().splitlines() or ["and says nothing"]
        raise NotObtained(f"`{asked}` ends with {answer.returncode}: {said[-1][:500]}")
    try:
        document = json.loads(answer.stdout)
    except (ValueError, RecursionError) as error:
        raise NotObtained(f"`{asked}` prints no JSON: {str(error).splitlines()[0]}") from error
    found = list(of_documents([document], f"context {context}" if context else "the cluster"))
    if not found:
        raise NotObtained(f"`{asked}` lists no CustomResourceDefinition with a schema")
    return usable(found)


def _environment() -> dict[str, str]:
    """The person's environment, with paths of KUBECONFIG that do not depend on the folder."""
    made = dict(os.environ)
    if made.get("KUBECONFIG"):
        parts: Sequence[str] = made["KUBECONFIG"].split(os.pathsep)
        made["KUBECONFIG"] = os.pathsep.join(str(Path(one).absolute()) if one else one for one in parts)
    return made

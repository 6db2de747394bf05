"""Ask a server as a site does, with httpx, and say what came of it; told in one JSON argument."""

import json
import ssl
import sys

import httpx


def fetched(told):
    """Return status, issuer of the certificate, and text; or the name and text of the error."""
    trusted = ssl.create_default_context(cafile=told["ca"])
    client = httpx.Client(proxy=told.get("proxy"), verify=trusted, timeout=10, trust_env=False)
    body = b"x" * told.get("bytes", 0)
    with client, client.stream(told.get("method", "GET"), told["url"], content=body) as answer:
        tls = answer.extensions["network_stream"].get_extra_info("ssl_object")
        issuer = {} if tls is None else dict(item[0] for item in tls.getpeercert()["issuer"])
        text = answer.read().decode(errors="replace")
    return {"status": answer.status_code, "issuer": issuer.get("commonName"), "text": text}


if __name__ == "__main__":
    try:
        found = fetched(json.loads(sys.argv[1]))
    except httpx.HTTPError as error:
        found = {"error": type(error).__name__, "text": str(error)}
    sys.stdout.write(json.dumps(found))

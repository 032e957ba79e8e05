"""mctl login and logout: a server is remembered with its CA and how to say there who we are."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from kubeaccess.authorization import CannotConnect
from kubeaccess.tls import read
from mctl import connection
from mctl.auth import places
from mctl.auth.choice import Connection, ContextUser, Login, Logins, Token, TokenFile
from mctl.commands.auth import described
from mctl.errors import CommandError, ItemNotFound, UsageError
from mctl.rpc.client import ToolingClient
from service.wording import clean

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether the CA is the right one.")]


@connection.explained
def login(ctx: typer.Context, yes: Yes = False, **options: str) -> None:
    """Remember a server, its CA, and how to say there who you are; it is the default from then on.

    The fingerprint of the CA is shown first: compare it with what whoever runs the control plane says. Then the server
    is asked who you are. All this is saved in a file that only you may read.
    """
    chosen = connection.connection(connection.taken(options), connection.taken(ctx.find_root().params))
    kept = saved(chosen)
    for line in ca_lines(kept.ca_pem) if chosen.tls else ["no TLS: on this machine only"]:
        typer.echo(line)
    if not yes:
        _confirm(chosen.server)
    # With the CA that was shown, whatever is in the file by now.
    access = connection.opened(replace(chosen, ca="", ca_pem=kept.ca_pem))
    with ToolingClient(access, ctx.find_root().params["request_timeout"]) as client:
        caller = client.call(client.stub.WhoAmI, pb.WhoAmIRequest())
    path = places.logins_file(os.environ)
    logins = places.read_logins(path)
    places.write_logins(path, Logins(chosen.server, logins.servers | {chosen.server: kept}))
    for line in described(caller):
        typer.echo(line)
    typer.echo(clean(f"saved in {path}; {chosen.server} is asked from now on"))


def _confirm(server: str) -> None:
    try:
        trusted = typer.confirm(f"Is that the CA of {server}?", err=True)
    except typer.Abort:
        raise UsageError(
            "nobody answered, and nothing was saved: give --yes where the CA is known to be right"
        ) from None
    if not trusted:
        raise CommandError("nothing was saved")


def logout(
    server: Annotated[str, typer.Argument(metavar="[HOST:PORT]", help="Only this server.", show_default=False)] = "",
) -> None:
    """Forget what mctl login saved: of one server, or everything."""
    path = places.logins_file(os.environ)
    logins = places.read_logins(path)
    if server and server not in logins.servers:
        raise ItemNotFound(f"there is no login for {server}")
    left = {name: login for name, login in logins.servers.items() if server and name != server}
    places.write_logins(path, Logins(logins.current if logins.current in left else "", left))


def saved(chosen: Connection) -> Login:
    """Return what a login keeps of a connection: paths absolute, the CA as a copy; raises UsageError."""
    login = Login(server=chosen.server, server_name=chosen.server_name, cert=_path(chosen.cert), key=_path(chosen.key))
    try:
        pem = read(chosen.ca, "CA").decode(errors="replace") if chosen.ca else chosen.ca_pem
    except CannotConnect as error:
        raise UsageError(str(error)) from None
    login = replace(login, ca_pem=pem)
    match chosen.bearer:
        case Token(token):
            return replace(login, token=token)
        case TokenFile(path):
            return replace(login, token_file=_path(path))
        case ContextUser(paths, name):
            # By its name: another current context is for another cluster.
            named = name or _current(paths)
            files = os.pathsep.join(_path(each) for each in paths.split(os.pathsep) if each)
            return replace(login, kubeconfig=files, context=named)
    return login


def ca_lines(pem: str) -> list[str]:
    """Return each certificate of a CA for people: whom it names, until when, and its SHA-256 fingerprint."""
    if not pem:
        return ["CA: the public ones"]
    from cryptography import x509  # few commands need it
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        found = [
            (each.subject.rfc4514_string(), each.not_valid_after_utc.date(), each.fingerprint(SHA256()))
            for each in x509.load_pem_x509_certificates(pem.encode())
        ]
    except Exception as error:  # ValueError, TypeError, InvalidVersion: whatever the library has for what is broken
        raise UsageError(f"CA: no PEM certificates in it, or broken ones ({error})") from None
    lines = []
    for subject, until, fingerprint in found:
        lines += [clean(f"CA: {subject}, until {until.isoformat()}"), f"SHA-256 {fingerprint.hex(':').upper()}"]
    return lines


def _current(paths: str) -> str:
    from kubeaccess import kubeconfig

    try:
        return kubeconfig.load(paths, attended=True).name
    except CannotConnect as error:
        raise UsageError(f"kubeconfig {paths}: {error}") from None


def _path(path: str) -> str:
    return os.fspath(Path(path).expanduser().absolute()) if path else ""

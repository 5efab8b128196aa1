"""Commands of the server: serve, and the tokens of its local issuer. ``cli.py`` registers them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli_options import Json, load_settings, print_json

token_app = typer.Typer(help="Service tokens of the local issuer: issue, list, revoke.", no_args_is_help=True)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the web; 0 takes a free one.")] = 0,
    policy: Annotated[Path | None, typer.Option(help="Policy file; by default the setting 'policy'.")] = None,
    flight: Annotated[
        bool, typer.Option("--flight/--no-flight", help="Also serve Arrow Flight and Flight SQL.")
    ] = True,
    flight_port: Annotated[int, typer.Option(min=0, max=65535, help="Its port; 0 takes a free one.")] = 0,
    bi: Annotated[bool, typer.Option("--bi/--no-bi", help="Also show the release in the BI database.")] = True,
    metrics: Annotated[bool, typer.Option("--metrics/--no-metrics", help="Also serve figures to Prometheus.")] = True,
) -> None:
    """Open every door to the warehouse for whom the policy allows it, until Ctrl-C; print where they are."""
    import signal
    from contextlib import ExitStack

    from common.errors import UsageError
    from common.settings import Settings
    from penstock.operations import PipelineOperations
    from penstock.serve import PipelineFacts, server_options
    from penstock.serve_doors import Wanted, open_doors, web
    from penstock.show import say
    from warehouse.serve.server import Service, run

    settings = Settings.load(policy=policy)
    wanted = Wanted(flight=flight, bi=bi, metrics=metrics, host=host, flight_port=flight_port)
    with ExitStack() as opened:
        # Last of all to be left: whoever is impatient must not leave anything running.
        for number in (signal.SIGINT, signal.SIGTERM):
            opened.callback(signal.signal, number, signal.getsignal(number))
        service = Service(server_options(settings), PipelineFacts(settings), PipelineOperations(settings))
        opened.callback(service.close)
        app = web(service, settings, opened)
        lines = open_doors(service, settings, wanted, opened)

        def ready(address: str) -> None:
            say(f"Serving {address}/v1 until Ctrl-C; its description is {address}/v1/openapi.json")
            how = "at your issuer" if settings.login_client_id else "with a token: penstock token issue"
            say(f"Portal:      {address}/ (sign in {how})")
            for line in lines:
                say(line)
            say(f"Walls around guarded SQL: {', '.join(service.layers) or 'it is not served here'}")

        try:
            run(app, host=host, port=port, ready=ready)
        except OSError as error:
            raise UsageError(
                f"{host}:{port} cannot be listened on: {error.strerror}.", remedy="use another port"
            ) from None
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
    say("Ended.")


@token_app.command()
def issue(
    role: Annotated[str, typer.Option("--role", help="A role of the policy.")],
    expires: Annotated[str, typer.Option("--expires", help="How long it counts: 30s, 15m, 12h, 90d.")] = "1h",
    scope: Annotated[list[str] | None, typer.Option("--scope", help="read, sql or operate; may be repeated.")] = None,
    subject: Annotated[str, typer.Option("--subject", help="Who will hold it, for the log of queries.")] = "service",
    as_json: Json = False,
) -> None:
    """Make a token of the local issuer and print it. It is kept nowhere; its id is, so that it can be revoked."""
    from typing import get_args

    from common.errors import UnknownName
    from penstock.serve import parse_duration_s, server_options
    from warehouse.serve.policy import Scope, load_policy
    from warehouse.serve.tokens import LocalIssuer

    options = server_options(load_settings())
    roles = load_policy(options.policy).roles
    if role not in roles:
        raise UnknownName(f"The policy has no role {role!r}.", remedy=f"use one of {', '.join(roles) or 'none yet'}")
    wanted = scope or ["read"]
    for each in wanted:
        if each not in get_args(Scope):
            raise UnknownName(f"There is no scope {each!r}.", remedy=f"use one of {', '.join(get_args(Scope))}")
    token, claims = LocalIssuer(options.state).issue(
        role, wanted, subject=subject, audience=options.audience, expires_in_s=parse_duration_s(expires)
    )
    if as_json:
        print_json({"token": token, "id": claims["jti"], "expires_at": claims["exp"]})
    else:
        sys.stdout.write(token + "\n")


@token_app.command("list")
def list_tokens(as_json: Json = False) -> None:
    """Tokens that were issued here: id, subject, role, end, whether revoked."""
    from datetime import UTC, datetime

    from penstock.show import print_table, say
    from warehouse.serve.tokens import LocalIssuer

    found = LocalIssuer(load_settings().home / "serve").issued()
    rows = [
        {
            "id": each["jti"],
            "subject": each["sub"],
            "role": each["role"],
            "scopes": each["scope"],
            "expires at": datetime.fromtimestamp(each["exp"], UTC).isoformat(),
            "revoked": each["revoked"],
        }
        for each in found
    ]
    if as_json:
        print_json(rows)
    elif rows:
        print_table("Tokens", rows, tuple(rows[0]))
    else:
        say("No token was issued yet.")


@token_app.command()
def revoke(token_id: Annotated[str, typer.Argument(help="The token's id: 'jti' of it.")]) -> None:
    """Take a token back, one of ours or of another issuer; it counts with the next request."""
    from penstock.show import say
    from warehouse.serve.tokens import LocalIssuer

    LocalIssuer(load_settings().home / "serve").revoke(token_id)
    say(f"Token {token_id} is revoked.")


@token_app.command()
def provider(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
) -> None:
    """Be an OpenID provider for development, until Ctrl-C: whoever opens it chooses a role, without a password."""
    from common.errors import UsageError
    from penstock.portal.provider import Provider
    from penstock.serve import server_options
    from penstock.show import say
    from warehouse.serve.policy import load_policy
    from warehouse.serve.server import run

    settings = load_settings()
    options = server_options(settings)
    client_id = settings.login_client_id or "penstock"
    made = Provider(
        options.state / "provider",
        {name: role.scopes for name, role in load_policy(options.policy).roles.items()},
        client_id=client_id,
        client_secret=settings.login_client_secret.get_secret_value(),
        audience=options.audience,
        role_claim=options.role_claim,
    )

    def ready(address: str) -> None:
        made.url = address
        say(f"OpenID provider for development: {address} until Ctrl-C. It asks for no password.")
        say(f"Sign in by it: PENSTOCK_TOKEN_ISSUERS={address} PENSTOCK_LOGIN_CLIENT_ID={client_id} penstock serve")

    try:
        run(made.app, host="127.0.0.1", port=port, ready=ready)
    except OSError as error:
        raise UsageError(
            f"127.0.0.1:{port} cannot be listened on: {error.strerror}.", remedy="use another port"
        ) from None
    say("Ended.")


COMMANDS = (serve,)

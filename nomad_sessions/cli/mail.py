"""The group `mail`: messages between sessions and agents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from nomad_sessions.cli.exits import guarded
from nomad_sessions.cli.output import for_people, page_as_json, pairs, plain, show_page, table, when, write_json
from nomad_sessions.cli.sessions import read_text
from nomad_sessions.cli.store import AsJson, AsRecord, DataDir, Workspace, open_store
from nomad_sessions.errors import InvalidInputError, LeaseNotFoundError, NotFoundError
from nomad_sessions.mail.asking import SendOptions
from nomad_sessions.mail.names import name_of
from nomad_sessions.models import Page, dump
from nomad_sessions.models.mail import Mail

__all__ = ["register"]

_CUT = 60  # characters of a message in a list

Recipient = Annotated[str, typer.Argument(help="A session's id, or an agent's name.", metavar="RECIPIENT")]
Anybody = Annotated[str | None, typer.Argument(help="Only those for this one.", metavar="RECIPIENT")]
Lease = Annotated[str, typer.Argument(help="The lease's id, as `receive` gave it.", metavar="LEASE")]
Sender = Annotated[str | None, typer.Option("--from", help="Who sends.")]
Type = Annotated[str, typer.Option("--type", help="What kind of message: rules go by it.")]
Priority = Annotated[str, typer.Option("--priority", "-p", help="low, medium, high or urgent.")]
Meta = Annotated[
    list[str] | None, typer.Option("--meta", help="KEY=VALUE, JSON or text; several times.", metavar="KEY=VALUE")
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")]
Cursor = Annotated[str | None, typer.Option(help="Go on where an earlier list ended.")]


def register(app: typer.Typer) -> None:
    """Adds this group."""
    group = typer.Typer(
        name="mail",
        help="Messages between sessions and agents: sent, leased, acknowledged; kept until they are.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    for command in (send, receive, ack, nack, extend, ls, dead, requeue, discard, counts, rules, explain):
        group.command()(guarded(command))
    app.add_typer(group)


def send(
    text: Annotated[str | None, typer.Argument(help="The message. Default, and with '-': read from stdin.")] = None,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", help="For whom; several times: one message for each. Default: whom the rules name."),
    ] = None,
    sender: Sender = None,
    type: Type = "message",
    priority: Priority = "medium",
    meta: Meta = None,
    key: Annotated[str | None, typer.Option(help="A key of your own: sending again is harmless.")] = None,
    ttl: Annotated[float | None, typer.Option(help="Seconds that it is good for.")] = None,
    drop: Annotated[bool, typer.Option("--drop", help="When they are over, away with it: no dead letter.")] = False,
    max_attempts: Annotated[int, typer.Option(help="How often it is handed out at most.")] = 5,
    backoff: Annotated[float, typer.Option(help="Seconds before the second attempt; then twice as long.")] = 1.0,
    parse: Annotated[bool, typer.Option("--parse", help="The text is JSON: send what it stands for.")] = False,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsRecord = False,
) -> None:
    """Send a message; once it is on the disk, print its id, one for each recipient."""
    content = _parsed("text", read_text(text)) if parse else read_text(text)
    options = SendOptions(sender=sender, type=type, priority=priority, metadata=_metadata(meta), key=key, ttl=ttl)
    options |= SendOptions(on_expiry="drop" if drop else "dead", max_attempts=max_attempts, backoff=backoff)
    with open_store(data_dir, workspace, create=True) as (manager, ws):
        each_to = dict.fromkeys(name_of("recipient", name) for name in to or [])
        sent = [manager.send(ws, name, content, **options) for name in each_to]
        sent = sent or manager.publish(ws, content, **options)
    if as_json:
        write_json([dump(mail) for mail in sent])
    else:
        print("\n".join(mail.id for mail in sent))


def receive(
    recipient: Recipient,
    lease: Annotated[float, typer.Option(help="Seconds that it is yours.")] = 30.0,
    wait: Annotated[float, typer.Option(help="Seconds to wait for one.")] = 0.0,
    unordered: Annotated[bool, typer.Option("--unordered", help="Whichever is free, out of turn too.")] = False,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Lease the next message: `mail ack` it when it is dealt with. Prints null where there is none."""
    with open_store(data_dir, workspace) as (manager, ws):
        mail = manager.receive(ws, recipient, lease=lease, wait=wait, ordered=not unordered)
    if not for_people(as_json):
        write_json(None if mail is None else dump(mail))
    elif mail is None:
        Console().print(f"nothing waits for {plain(recipient)}")
    else:
        _show(mail)


def ack(
    leases: Annotated[list[str], typer.Argument(help="The leases' ids.", metavar="LEASE...")],
    workspace: Workspace = None,
    data_dir: DataDir = None,
) -> None:
    """Say that a message has been dealt with: it is gone. A lease that there is not stops none of the others."""
    missing: list[LeaseNotFoundError] = []
    with open_store(data_dir, workspace) as (manager, ws):
        for each in leases:
            try:
                manager.ack(ws, each)
            except LeaseNotFoundError as error:
                missing.append(error)
    if missing:
        done = "" if len(missing) == len(leases) else "; the others are acknowledged"
        raise NotFoundError(kind="lease", id=", ".join(each.id for each in missing), hint=f"{missing[0].hint}{done}")


def nack(
    lease: Lease,
    delay: Annotated[float | None, typer.Option(help="Seconds to the next attempt. Default: its backoff.")] = None,
    error: Annotated[str | None, typer.Option(help="Why it failed.")] = None,
    no_retry: Annotated[bool, typer.Option("--no-retry", help="To the dead letters at once.")] = False,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsRecord = False,
) -> None:
    """Give a message back, for another attempt; print its id."""
    with open_store(data_dir, workspace) as (manager, ws):
        _report(manager.nack(ws, lease, delay=delay, error=error, retry=not no_retry), as_json)


def extend(
    lease: Lease,
    seconds: Annotated[float, typer.Option(help="How long it is yours from now on.")] = 30.0,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsRecord = False,
) -> None:
    """Keep a message for longer; print its id."""
    with open_store(data_dir, workspace) as (manager, ws):
        _report(manager.extend(ws, lease, seconds), as_json)


def ls(
    recipient: Anybody = None,
    status: Annotated[str | None, typer.Option(help="queued, leased, dead, acked or expired.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List what is in the mailbox, in the order of sending; nothing is leased."""
    with open_store(data_dir, workspace) as (manager, ws):
        _list(manager.list_mail(ws, recipient, status=status, limit=limit, cursor=cursor), as_json, "messages")


def dead(
    recipient: Anybody = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List the dead letters, and why each was given up."""
    with open_store(data_dir, workspace) as (manager, ws):
        _list(manager.dead_letters(ws, recipient, limit=limit, cursor=cursor), as_json, "dead letters")


def requeue(
    ids: Annotated[list[str] | None, typer.Argument(help="Dead letters.", metavar="MAIL...")] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="All dead letters.")] = False,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsRecord = False,
) -> None:
    """Give dead letters all their attempts again; print their ids."""
    if bool(ids) == everything:
        raise InvalidInputError(field="mail", value=ids, reason="name dead letters, or say --all")
    with open_store(data_dir, workspace) as (manager, ws):
        chosen = [mail.id for mail in manager.dead_letters(ws)] if everything else ids or []
        for each in chosen:
            _report(manager.requeue(ws, each), as_json)


def discard(
    ids: Annotated[list[str], typer.Argument(help="What waits, or dead letters.", metavar="MAIL...")],
    workspace: Workspace = None,
    data_dir: DataDir = None,
) -> None:
    """Take messages away that nobody has."""
    with open_store(data_dir, workspace) as (manager, ws):
        for each in ids:
            manager.discard(ws, each)


def counts(
    recipient: Anybody = None, workspace: Workspace = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Show how many messages wait, are leased and dead, and how old the oldest is."""
    with open_store(data_dir, workspace) as (manager, ws):
        found = manager.mail_counts(ws, recipient)
    if not for_people(as_json):
        write_json(found._asdict())
        return
    shown = {**{name: str(value) for name, value in found._asdict().items()}, "oldest": when(found.oldest or 0)}
    Console().print(pairs(shown.items()))


def rules(
    file: Annotated[
        Path | None,
        typer.Option("--set", help="A file with a JSON list of rules, '-' for stdin, that replaces them all."),
    ] = None,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show the rules that say to whom a message goes that names nobody, or replace them."""
    given = None if file is None else _parsed("rules", read_text("-") if str(file) == "-" else _text_of(file))
    with open_store(data_dir, workspace, create=given is not None) as (manager, ws):
        found = manager.mail_rules(ws) if given is None else manager.set_mail_rules(ws, given)
    if not for_people(as_json):
        write_json([dump(rule) for rule in found])
        return
    rows = []
    for rule in found:
        asked: dict[str, Sequence[str]] = {"type": rule.types, "from": rule.senders, "priority": rule.priorities}
        wanted = [f"{name} {'|'.join(values)}" for name, values in asked.items() if values]
        wanted += [f"{key}={json.dumps(value)}" for key, value in rule.metadata.items()]
        rows.append((rule.name, ", ".join(wanted) or "anything", ", ".join(rule.to), "yes" if rule.proceed else ""))
    Console().print(table(("rule", "if", "to", "goes on"), rows))


def explain(
    sender: Sender = None,
    type: Type = "message",
    priority: Priority = "medium",
    meta: Meta = None,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what each rule says of such a message, and why. Nothing is sent."""
    with open_store(data_dir, workspace) as (manager, ws):
        verdicts = manager.explain_route(ws, sender=sender, type=type, priority=priority, metadata=_metadata(meta))
    if not for_people(as_json):
        write_json([{**verdict._asdict(), "to": list(verdict.to)} for verdict in verdicts])
        return
    rows = ((each.rule, "yes" if each.matched else "no", each.reason, ", ".join(each.to)) for each in verdicts)
    Console().print(table(("rule", "matches", "why", "to"), rows))


def _report(mail: Mail, as_json: bool) -> None:
    if as_json:
        write_json(dump(mail))
    else:
        print(mail.id)


def _show(mail: Mail) -> None:
    lease = "" if mail.lease is None else f"{mail.lease.id}  until {when(mail.lease.until)}"
    facts = [("id", mail.id), ("lease", lease), ("from", mail.sender or "-"), ("type", mail.type)]
    facts += [("priority", mail.priority), ("attempt", f"{mail.attempts} of {mail.max_attempts}")]
    console = Console()
    console.print(pairs(facts))
    console.print(plain(_text(mail.content)), markup=False, highlight=False)


def _list(page: Page[Mail], as_json: bool, noun: str) -> None:
    if not for_people(as_json):
        write_json(page_as_json(page))
        return
    console = Console()
    console.print(table(("id", "for", "from", "priority", "status", "tries", "message", "why"), _rows(page)))
    show_page(console, page, noun)


def _rows(page: Iterable[Mail]) -> Iterable[tuple[str, ...]]:
    for mail in page:
        why = f"{mail.reason or ''}: {mail.error}" if mail.error else mail.reason or ""
        text = _text(mail.content)
        short = text if len(text) <= _CUT else f"{text[:_CUT]}…"
        tries = f"{mail.attempts}/{mail.max_attempts}"
        yield mail.id, mail.recipient, mail.sender or "-", mail.priority, mail.status, tries, short, why


def _text(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def _metadata(given: list[str] | None) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for each in given or []:
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise InvalidInputError(field="meta", value=each, reason="write it as KEY=VALUE")
        try:
            found[key] = json.loads(value)
        except (ValueError, RecursionError):  # Text needs no quotes.
            found[key] = value
    return found or None


def _parsed(field: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(field=field, value=text, reason=f"is no JSON: {error}") from None


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(field="file", value=str(file), reason=f"is no text in UTF-8: {error}") from None

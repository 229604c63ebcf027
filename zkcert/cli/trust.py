"""Trust around a proof: what providers, witnesses and authorities do."""

from __future__ import annotations

from typing import Annotated

import typer

from zkcert import api
from zkcert.cli.application import app
from zkcert.cli.display import err, out, print_json, progress_bar
from zkcert.cli.options import AsJson
from zkcert.trust.times import time_text

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def _roles(name: str, text: str) -> typer.Typer:
    found = typer.Typer(name=name, help=text, context_settings=SETTINGS, rich_markup_mode=None)
    app.add_typer(found)
    return found


provider = _roles("provider", "What the owner of a model signs: keygen, request, stamp.")
witness = _roles("witness", "What a witness of announcements signs: keygen, sign; gather, for keys.")
authority = _roles("authority", "What an authority on data signs: keygen, check, sign, join; gather, for keys.")

SecretKey = Annotated[str, typer.Option("--key", metavar="FILE", help="Your secret key, *.key.")]
Passphrase = Annotated[
    str | None, typer.Option("--passphrase", metavar="FILE", help="A file with the passphrase of the secret key.")
]
Announcement = Annotated[str, typer.Argument(metavar="ANNOUNCEMENT", help="announce.json, which names a round.")]
Force = Annotated[bool, typer.Option("--force", help="Replace another file of that kind.")]


def keygen(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Your name, as verifiers will see it.")],
    file: Annotated[str, typer.Option("--out", "-o", help="The files to write, without .key and .pub.")],
    passphrase: Passphrase = None,
    as_json: AsJson = False,
) -> None:
    """Make a key.

    FILE.key is secret and yours alone; FILE.pub is for everybody, and proves that you know the secret. With
    --passphrase the secret is encrypted (an EIP-2335 keystore).
    """
    result = api.keygen(file, name, passphrase=passphrase)
    if as_json:
        print_json(result.to_dict())
        return
    out.print(f"key     {result.key.key.hex()}")
    out.print(f"secret  {result.secret} (keep it)")
    out.print(f"public  {result.public}")


def gather(
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="Public keys, *.pub.")],
    file: Annotated[str, typer.Option("--out", "-o", help="The file to write.")],
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make one file of several public keys.

    For --witness and --authority of zkcert verify, which also take the files one by one.
    """
    path = api.gather(keys, file, force=force)
    print_json({"keys": str(path)}) if as_json else out.print(f"file    {path}")


for _app in (provider, witness, authority):
    _app.command()(keygen)
for _app in (witness, authority):
    _app.command()(gather)


@provider.command()
def request(
    announcement: Announcement,
    key: SecretKey,
    file: Annotated[str, typer.Option("--out", "-o", help="The request to write.")] = "request.json",
    passphrase: Passphrase = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Ask witnesses to sign an announcement.

    Send the request to every witness, long enough before the round.
    """
    path = api.request(announcement, file, key=key, passphrase=passphrase, force=force)
    if as_json:
        print_json({"request": str(path)})
    else:
        out.print(f"file    {path}")


@provider.command()
def stamp(
    announcement: Announcement,
    file: Annotated[
        str | None,
        typer.Option("--out", "-o", help="The file to write. [default: announce.tsq, with --fetch announce.tsr]"),
    ] = None,
    fetch: Annotated[
        str | None, typer.Option(metavar="URL", help="Send the query to this authority, and write its answer.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask for a time stamp (RFC 3161) of an announcement.

    Send the query to an authority, such as with: curl -H "Content-Type: application/timestamp-query" --data-binary
    @announce.tsq URL -o announce.tsr; or let --fetch URL do that. A time stamp shows that the announcement is old, not
    that there is only one.
    """
    if fetch is not None:
        answer = api.fetch_stamp(announcement, file or "announce.tsr", server=fetch)
        print_json(answer.to_dict()) if as_json else out.print(f"file    {answer.path}")
        return
    path = api.stamp_query(announcement, file or "announce.tsq")
    if as_json:
        print_json({"query": str(path)})
    else:
        out.print(f"file    {path}")


@witness.command()
def sign(
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="request.json, from a provider.")],
    key: SecretKey,
    state: Annotated[
        str, typer.Option(metavar="DIR", help="Where you keep what you have signed; never set it back to a copy.")
    ],
    file: Annotated[str, typer.Option("--out", "-o", help="The receipt to write.")] = "receipt.json",
    chain: Annotated[
        str | None, typer.Option(metavar="FILE", help="info.json of a drand chain other than quicknet and default.")
    ] = None,
    passphrase: Passphrase = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Sign that an announcement exists now.

    One announcement for each provider, chain and round, and none when the round is out: exit code 1 otherwise. Asked
    again for the same one, it gives the same receipt.
    """
    result = api.witness(request, file, key=key, state=state, chain=chain, passphrase=passphrase, force=force)
    if as_json:
        print_json(result.to_dict())
        return
    seen = result.receipt.seen
    out.print(f"digest  {seen.announced.digest.hex()}")
    out.print(f"time    {time_text(seen.time)}; announcement {seen.count} of this provider")
    out.print(f"file    {result.path}")
    err.print("Keep the state: whoever loses it may sign twice.")


@authority.command()
def check(
    data: Annotated[str, typer.Argument(metavar="DATA", help="The data that you hold, as for zkcert commit.")],
    secret: Annotated[str, typer.Argument(metavar="DATA.ZKD", help="The secret file of the commitment.")],
    data_root: Annotated[str, typer.Argument(metavar="DATA.ROOT", help="The public file of the commitment.")],
    as_json: AsJson = False,
) -> None:
    """Compare data that you hold with a commitment.

    Every committed sample is one of DATA, in some order, and the root is computed from them anew: exit code 1 if they
    differ. Do this before you sign.
    """
    with progress_bar("hashing samples") as progress:
        root = api.recompute(data, secret, data_root, progress=progress)
    if as_json:
        print_json({"root": root.root.hex(), "N": root.n})
    else:
        out.print(f"root    {root.root.hex()}: these {root.n} samples, and no others")


def _show(result: api.Endorsed, as_json: bool) -> None:
    if as_json:
        print_json(result.to_dict())
        return
    out.print(f"root    {result.endorsement.dataset.root.hex()}")
    out.print(f"says    {result.endorsement.about}")
    out.print(f"file    {result.path}")


@authority.command(name="sign")
def endorse(
    data_root: Annotated[str, typer.Argument(metavar="DATA.ROOT", help="The public file of the commitment.")],
    key: SecretKey,
    text: Annotated[str, typer.Option(help="What you vouch for: where the data come from, how they were labelled.")],
    licence: Annotated[str, typer.Option(help="The licence of the data.")],
    day: Annotated[str | None, typer.Option("--date", help="YYYY-MM-DD. [default: today]")] = None,
    file: Annotated[str, typer.Option("--out", "-o", help="The endorsement to write.")] = "endorsement.json",
    passphrase: Passphrase = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Vouch for a dataset, and say what for.

    What is signed is the commitment (root, number and kind of samples) and what you say about it. Nothing is checked
    here: compare the data first, with zkcert authority check.
    """
    known = {"key": key, "text": text, "licence": licence, "day": day, "passphrase": passphrase}
    _show(api.endorse(data_root, file, **known, force=force), as_json)


@authority.command()
def join(
    endorsements: Annotated[list[str], typer.Argument(metavar="ENDORSEMENT...", help="Of several authorities.")],
    authorities: Annotated[
        list[str], typer.Option("--authority", metavar="FILE", help="The public key of one of them. May be repeated.")
    ],
    file: Annotated[str, typer.Option("--out", "-o", help="The endorsement to write.")] = "endorsement.json",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make one endorsement of several that say the same.

    Each is checked first, and a bad one is named; then their signatures are added up.
    """
    _show(api.join(endorsements, file, authorities=authorities, force=force), as_json)

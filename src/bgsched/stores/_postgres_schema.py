"""The tables of a PostgreSQL store, and how they come to be."""

from importlib import resources

import psycopg

from bgsched.errors import StoreSchemaError, StoreUnavailableError
from bgsched.stores._links import LONG, Links, Talk

__all__ = ["SCHEMA_VERSION", "prepare"]

SCHEMA_VERSION = 1

# ruff: noqa: S608  statements are put together from names of our own and the schema's, which is checked


def prepare(readers: Links, writers: Links | None, schema: str) -> None:
    """Bring the schema to this version; a look is enough where it is, so that no right to make anything is needed.

    *writers*: ``None`` where nothing may be changed.
    """
    place = f"PostgreSQL at {readers.address}, schema {schema!r}"
    with readers.transaction() as talk:
        version = _version(talk, place, schema)
    if version == SCHEMA_VERSION:
        return
    if writers is None:
        raise StoreSchemaError(
            f"{place}, holds no bgsched tables of this version; a scheduler makes them when it first starts there"
        )
    with writers.transaction() as talk:
        _migrate(talk, place, schema)


def _migrate(talk: Talk, place: str, schema: str) -> None:
    """Take the missing steps, while others that want to do the same wait."""
    talk.patience = LONG
    talk.do("SET LOCAL lock_timeout = '60s'")
    talk.do("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", f"bgsched schema {schema}")
    is_there = bool(talk.ask("SELECT 1 FROM pg_namespace WHERE nspname = %s", schema))
    try:
        if not is_there:
            talk.ask(f'CREATE SCHEMA "{schema}"')
        version = _version(talk, place, schema)
        if version == 0:
            talk.do(f'CREATE TABLE "{schema}".schema_version (version bigint NOT NULL)')
        for step in range(version + 1, SCHEMA_VERSION + 1):
            text = resources.files("bgsched.stores.schema").joinpath(f"postgres_{step:04}.sql").read_text("utf-8")
            talk.script(text.replace("bgsched.", f'"{schema}".'))
            talk.do(f'INSERT INTO "{schema}".schema_version (version) VALUES (%s)', step)
    except psycopg.errors.InsufficientPrivilege as error:
        wanted = f"GRANT USAGE, CREATE ON SCHEMA {schema} TO" if is_there else f"CREATE SCHEMA {schema} AUTHORIZATION"
        raise StoreUnavailableError(
            f"{place}: the role may not make the schema or its tables; let its owner run: {wanted} {talk.role}"
        ) from error
    except psycopg.errors.DuplicateTable as error:
        raise _not_ours(place, str(error.diag.message_primary)) from error


def _version(talk: Talk, place: str, schema: str) -> int:
    """Return the version of the schema, 0 where there is none."""
    name = f'"{schema}".schema_version'
    try:
        if talk.ask("SELECT to_regclass(%s)::text", name)[0][0] is None:
            return 0
        version = talk.ask(f"SELECT max(version) FROM {name}")[0][0]
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreUnavailableError(
            f"{place}: role {talk.role!r} may not read the tables; let their owner run: "
            f"GRANT USAGE ON SCHEMA {schema} TO ...; GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO ..."
        ) from error
    except psycopg.errors.UndefinedColumn as error:
        raise _not_ours(place, str(error.diag.message_primary)) from error
    if version is None:
        return 0
    if not isinstance(version, int) or version < 1:  # migration tools have a table of that name
        raise _not_ours(place, f"schema_version says {version!r}")
    if version > SCHEMA_VERSION:
        raise StoreSchemaError(
            f"{place}, has schema {version}, this bgsched knows up to {SCHEMA_VERSION}; "
            "upgrade bgsched, or give another schema"
        )
    return version


def _not_ours(place: str, sign: str) -> StoreSchemaError:
    return StoreSchemaError(f"{place}: another program has its tables there ({sign}); give bgsched a schema of its own")
